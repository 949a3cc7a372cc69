"""What is known of Containerfiles, of podman's output, of podman's images: values from texts."""

import copy
import io
import os
import re
import shutil
from pathlib import Path

import pytest

from kirsch.cli.output import Steps
from kirsch.cluster.image import podman
from kirsch.cluster.image.base import base_name
from kirsch.cluster.image.build import planned
from kirsch.cluster.image.containerfile import Containerfile, excluded, patterns
from kirsch.cluster.image.fingerprint import taken
from kirsch.cluster.image.lock import BUILD, exclusive, registry_lock, shared
from kirsch.cluster.image.progress import Begun, Cached, Progress, reason
from kirsch.cluster.image.reference import ImageError, content_tag, is_content_tag
from kirsch.cluster.image.registry_client import Tagged, unused
from kirsch.cluster.image.store import listed
from kirsch.cluster.image.wheels import named

IMAGES = Path(__file__).parents[2] / "images"

STAGES = """\
# a comment
ARG BASE=debian:trixie-slim
ARG PACKAGES="python3 \\
    python3-venv"
FROM --platform=linux/amd64 ${BASE} AS first
FROM first
FROM scratch
FROM $BASE
FROM localhost/kirsch/web
"""

OUTPUT = """\
STEP 1/3: FROM localhost/kirsch/web
STEP 2/3: COPY . .
--> Using cache 1187f8f1d46375282e4f8a3a09fffbe931c0e4d18601752c61d3e21a4da4492a
--> 1187f8f1d46
STEP 3/3: RUN pip install \\
   -r requirements.txt
ERROR: no such thing
Error: building at STEP "RUN pip install": while running runtime: exit status 7
"""

INSPECTED = {
    "Os": "linux",
    "Architecture": "amd64",
    "RootFS": {"Layers": ["sha256:aa", "sha256:bb"]},
    "Config": {"Cmd": ["cherryd"], "Hostname": "4b39f8e708f4", "Env": ["A=1"]},
}


def test_a_containerfiles_bases_are_not_its_own_stages():
    file = Containerfile.parse(STAGES)
    assert file.bases == ("debian:trixie-slim", "localhost/kirsch/web")
    assert file.packages == ("python3", "python3-venv")
    assert Containerfile.parse(STAGES, {"BASE": "fedora"}).bases[0] == "fedora"


def test_what_is_taken_from_other_images_is_known_too():
    file = Containerfile.parse(
        """\
ARG TAG
FROM\tfedora:${TAG:-40} AS Tools
FROM --platform=$BUILDPLATFORM tools
COPY --from=tools --chown=web /a /b
COPY --from=0 /a /b
COPY --link --from=registry.example/uv:1 /uv /bin/
RUN --mount=type=bind,from=more:2,source=/x,target=/y make --from=nowhere
RUN cat <<END
FROM nowhere
END
RUN echo $((1<<2))
from "localhost/kirsch/web"
"""
    )
    assert file.bases == ("fedora:40", "registry.example/uv:1", "more:2", "localhost/kirsch/web")


def test_our_own_images_say_who_they_are_and_run_as_nobody_in_particular():
    for path in IMAGES.glob("*/Containerfile"):
        text = path.read_text()
        for label in ("title", "description", "licenses"):
            assert f"org.opencontainers.image.{label}=" in text, path
        assert re.search(r"^STOPSIGNAL ", text, re.MULTILINE), path
        # A whole machine; and kirsch up, whose root is the user who runs it.
        if path.parent.name not in ("node", "kirsch"):
            assert re.search(r"^USER (?!root|0)", text, re.MULTILINE), path
            # Of postgres-ha kirsch asks Patroni, more often than podman should run a program.
            if path.parent.name != "postgres-ha":
                assert re.search(r"^HEALTHCHECK ", text, re.MULTILINE), path


def test_our_own_images_say_what_a_base_needs():
    for path in IMAGES.glob("*/Containerfile"):
        file = Containerfile.parse(path.read_text())
        assert file.bases, path
        assert file.packages or file.bases[0].startswith("localhost/kirsch/"), path


def test_a_base_is_named_by_its_packages():
    assert base_name(("a", "b"), "x86_64") == base_name(("b", "a"), "x86_64")
    assert len({base_name(("a",), "x86_64"), base_name(("b",), "x86_64"), base_name(("a",), "arm64")}) == 3


def test_podmans_lines_are_steps():
    progress = Progress()
    events = [event for line in OUTPUT.splitlines() for event in progress.read(line)]
    assert events[0] == Begun("1/3 FROM localhost/kirsch/web")
    assert events[1:3] == [Begun("2/3 COPY . ."), Cached()]
    assert len(events) == 4
    lines, why = reason(progress.lines)
    assert why == "exit status 7"
    assert lines[-1] == "ERROR: no such thing"


def test_a_reason_is_what_podman_says():
    assert reason(["Error: no space left on device"])[1] == "no space left on device"
    missing = 'checking on sources under "/app": copier: stat: "/b": no such file or directory'
    assert reason([f'Error: building at STEP "COPY a b .": {missing}'])[1] == missing
    assert reason([])[1]


def test_an_instruction_that_podman_does_not_know_is_told_without_podmans_inside():
    progress = Progress()
    step = f'&imagebuilder.Step{{Env:[]string{{"{"A" * 500}"}}, Command:"runn"}}'
    list(progress.read(f'Error: building at STEP "RUNN ": Build error: Unknown instruction: "RUNN" {step}'))
    assert reason(progress.lines) == ([], 'Build error: Unknown instruction: "RUNN"')


def test_a_long_step_keeps_its_beginning():
    progress = Progress()
    list(progress.read(f"STEP 1/1: RUN {'x' * 500}"))
    assert progress.step.startswith("1/1 RUN xxx")
    assert len(progress.step) < 80


def test_the_content_tag_knows_layers_and_settings_but_no_traces():
    tag = content_tag(INSPECTED)
    assert is_content_tag(tag)
    other = copy.deepcopy(INSPECTED)
    other["Config"]["Hostname"] = "elsewhere"
    assert content_tag(other) == tag
    other["Config"]["Cmd"] = ["python"]
    assert content_tag(other) != tag
    base = {**INSPECTED, "History": [{"created_by": "/bin/sh -c #(nop) ONBUILD ENV A=1"}]}
    assert content_tag(base) != tag
    assert content_tag({**INSPECTED, "History": [{"created_by": "/bin/sh -c make", "comment": "x"}]}) == tag
    layers = copy.deepcopy(INSPECTED)
    layers["RootFS"]["Layers"].append("sha256:cc")
    assert content_tag(layers) != tag
    assert not is_content_tag("latest")


def test_an_images_content_tag_is_listed_beside_its_names_not_as_one():
    tag = content_tag(INSPECTED)
    earlier = content_tag({**INSPECTED, "Os": "as an earlier kirsch had it"})
    names = [f"localhost/notes:{each}" for each in (earlier, tag, "1", "latest")] + [f"localhost/old:{tag}"]
    found = listed([{"Id": "a" * 64, "Names": names, "Size": 5}] * 4)
    assert [(image.name, image.tag, image.content) for image in found] == [
        ("localhost/notes", "1", tag),
        ("localhost/notes", "latest", tag),
        ("localhost/old", tag, tag),
    ]


def test_wheels_are_mounted_for_reading_only():
    argv = podman.build(
        Path("app"), Path("app/Containerfile"), ["localhost/notes:1"], {"A": "1"},
        id_file=Path("id"), ignore=Path("ignore"), wheels=Path("/cache/w"), cache=False,
    ).argv  # fmt: skip
    assert "/cache/w:/wheels:ro" in argv
    assert argv[argv.index("--build-arg") + 1] == "A=1"
    assert "--no-cache" in argv
    assert "--layers" not in argv
    assert argv[-1] == "app"


def test_patterns_are_written_as_every_podman_reads_them():
    assert patterns("# all\r\n *.log \n! /kept.log\n").splitlines() == [
        "# all",
        "*.log",
        "!kept.log",
        "**/.kirsch",
    ]
    assert patterns("") == "**/.kirsch\n"


def test_the_containerfiles_own_patterns_come_first(tmp_path):
    file = tmp_path / "Other"
    assert excluded(tmp_path, file) == patterns("")
    (tmp_path / ".dockerignore").write_text("docker")
    assert excluded(tmp_path, file) == patterns("docker")
    (tmp_path / ".containerignore").write_text("container")
    assert excluded(tmp_path, file) == patterns("container")
    (tmp_path / "Other.dockerignore").write_text("own")
    assert excluded(tmp_path, file) == patterns("own")


def test_requirements_are_those_of_the_files_that_they_name_too(tmp_path):
    (tmp_path / "requirements.txt").write_text("-r more.txt\n--constraint=limits.txt # all\n-r gone.txt\na\n")
    (tmp_path / "more.txt").write_text("-rrequirements.txt\nb\n")
    (tmp_path / "limits.txt").write_text("b<2\n")
    texts = named(tmp_path / "requirements.txt")
    assert [text.splitlines()[-1] for text in texts.values()] == ["a", "b", "b<2"]


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_bytes(b"\xff")])
def test_what_is_no_text_is_said_in_a_line(tmp_path, make):
    make(tmp_path / "requirements.txt")
    with pytest.raises(ImageError, match=r"requirements\.txt") as refused:
        named(tmp_path / "requirements.txt")
    assert "\n" not in str(refused.value)


def test_a_folder_whose_name_is_no_images_wants_one(tmp_path):
    folder = tmp_path / "My App"
    folder.mkdir()
    (folder / "Containerfile").touch()
    with pytest.raises(ImageError, match="'my app' cannot be an image's name: give one with -t NAME"):
        planned(folder, [], {})
    if shutil.which("podman") and shutil.which("runc"):
        assert str(planned(folder, ["mine"], {}).names[0]) == "localhost/mine:latest"


def test_what_neither_a_name_nor_a_unit_holds_is_retired():
    old, used, named, elsewhere = (f"k-{digit * 12}" for digit in "1234")
    kept = [
        Tagged("notes", old, "sha256:1"),
        Tagged("notes", used, "sha256:2"),
        Tagged("notes", named, "sha256:3"),
        Tagged("notes", "latest", "sha256:3"),
        Tagged("other", elsewhere, "sha256:1"),
    ]
    texts = [f"[Container]\nImage=10.0.0.1:5000/notes:{used}\n", "[Service]\nExecStart=true\n"]
    assert unused(kept, texts) == [("notes", "sha256:1"), ("other", "sha256:1")]
    assert unused(kept[:1] * 2, [f"Image=localhost/notes:{old}"]) == []


def test_nothing_is_tidied_up_while_something_is_built(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with shared(BUILD), shared(BUILD), exclusive(BUILD) as alone:
        assert not alone
    with exclusive(BUILD) as alone:
        assert alone


def test_nothing_is_taken_from_a_registry_while_something_is_sent_there(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with (
        shared(registry_lock("r:5000")),
        shared(registry_lock("r:5000")),
        exclusive(registry_lock("r:5000")) as alone,
        exclusive(registry_lock("[::1]:5000")) as other,
    ):
        assert (alone, other) == (False, True)
    # An error is the caller's, and the turn another's then.
    with pytest.raises(ImageError, match="mine"), exclusive(registry_lock("r:5000")) as alone:
        raise ImageError("mine" if alone else "not alone")
    with exclusive(registry_lock("r:5000")) as alone:
        assert alone
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/x")
    with pytest.raises(ImageError, match="/dev/null/x/kirsch: Not a directory"), shared(BUILD):
        pass


class Terminal(io.StringIO):
    """What is written to it is read by a person."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("fails", "end"), [(True, "…    push x\n"), (False, "  1.0 s  push x\n")])
def test_what_is_said_of_a_step_that_failed_begins_a_line(fails, end):
    out = Terminal()
    with Steps(out) as steps:
        steps.begun("push x")
        if not fails:
            steps.done("push x", 1.0)
    assert out.getvalue().endswith(end)
    assert out.getvalue().count("\n") == 1


def test_a_fingerprint_changes_with_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    (tmp_path / "Containerfile").write_text("FROM docker.io/library/debian\nCOPY . /\n")
    (tmp_path / ".containerignore").write_text("out\n**/cache\n")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "below").mkdir()

    def found(id: str = "1", **arguments: str) -> str:
        plan = planned(tmp_path, ["notes"], arguments)
        fingerprint = taken(plan, {"docker.io/library/debian:latest": id})
        assert fingerprint is not None
        return repr(fingerprint)

    first = found()
    # What stays out of an image, and when files were written, changes nothing.
    (tmp_path / "out").write_text("x")
    (tmp_path / "below/cache").mkdir()
    (tmp_path / "below/cache/x").write_text("x")
    (tmp_path / ".kirsch").mkdir()
    os.utime(tmp_path / "file", (1, 1))
    assert found() == first
    seen = [first, found("2"), found(http_proxy="http://elsewhere")]
    (tmp_path / "file").write_text("y")
    seen.append(found())
    (tmp_path / "file").chmod(0o755)
    seen.append(found())
    (tmp_path / "link").unlink()
    seen.append(found())
    (tmp_path / "link").symlink_to("elsewhere")
    seen.append(found())
    (tmp_path / "empty").mkdir()
    seen.append(found())
    (tmp_path / ".containerignore").write_text("out\n!out\n**/cache\n")
    seen.append(found())
    (tmp_path / "Containerfile").write_text("FROM debian\nCOPY file /\n")
    seen.append(found())
    assert len(set(seen)) == len(seen)


def test_files_from_elsewhere_are_podmans_to_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    (tmp_path / "Containerfile").write_text("FROM scratch\nADD --chmod=755 https://example.org/x /x\n")
    assert taken(planned(tmp_path, ["notes"], {}), {}) is None
