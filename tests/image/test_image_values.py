"""What is known of Containerfiles, of podman's output, of podman's images: values from texts."""

import copy
from pathlib import Path

from kirsch.cluster.image import podman
from kirsch.cluster.image.base import base_name
from kirsch.cluster.image.containerfile import Containerfile
from kirsch.cluster.image.content import content_tag, is_content_tag
from kirsch.cluster.image.progress import Begun, Cached, Progress, reason
from kirsch.cluster.image.store import listed

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
    assert reason([])[1]


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
    layers = copy.deepcopy(INSPECTED)
    layers["RootFS"]["Layers"].append("sha256:cc")
    assert content_tag(layers) != tag
    assert not is_content_tag("latest")


def test_an_images_content_tag_is_listed_beside_its_names_not_as_one():
    tag = content_tag(INSPECTED)
    names = [f"localhost/notes:{tag}", "localhost/notes:1", "localhost/notes:latest", f"localhost/old:{tag}"]
    found = listed([{"Id": "a" * 64, "Names": names, "Size": 5}] * 4)
    assert [(image.name, image.tag, image.content) for image in found] == [
        ("localhost/notes", "1", tag),
        ("localhost/notes", "latest", tag),
        ("localhost/old", tag, tag),
    ]


def test_wheels_are_mounted_for_reading_only():
    argv = podman.build(
        Path("app"), Path("app/Containerfile"), ["localhost/notes:1"], {"A": "1"},
        id_file=Path("id"), wheels=Path("/cache/w"), cache=False,
    ).argv  # fmt: skip
    assert "/cache/w:/wheels:ro" in argv
    assert argv[argv.index("--build-arg") + 1] == "A=1"
    assert "--no-cache" in argv
    assert "--layers" not in argv
    assert argv[-1] == "app"
