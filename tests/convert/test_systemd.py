"""Applications as plain Quadlets and as compose files, read back by those who would read them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kirsch.cluster.application import Application, load
from kirsch.cluster.convert import compose, compose_export, quadlet, systemd
from kirsch.unit import UnitFile, split_words

EXAMPLES = Path(__file__).parents[2] / "examples"
KIRSCH = str(Path(sys.executable).with_name("kirsch"))
CONFIGURATION = (EXAMPLES / "notes/balancer/haproxy.cfg").read_text()
CONFIGURATIONS = {"balancer/haproxy.cfg": CONFIGURATION}


def notes():
    return load(EXAMPLES / "notes", cluster=True)


def one(text, name="web@.container"):
    """An application of two instances of one template."""
    return Application("app", Path(), {name: text}, {name: name}, ("web@1.container", "web@2.container"))


def values(text, section, name):
    return [entry.value for entry in UnitFile.parse(text).values(section, name)]


def test_each_instance_has_a_file_of_its_own():
    text = "[Container]\nImage=web\nEnvironment=ME=%i MINE=%p-%i HOME=%h RATE=5%%\n"
    made = systemd.export(one(text), {})
    assert set(made.files) == {"app.network", "web-1.container", "web-2.container"}
    assert (
        values(made.files["web-2.container"], "Container", "Environment")[0]
        == "ME=2 MINE=web-2 HOME=%h RATE=5%%"
    )


def test_links_are_variables_and_names_of_the_network():
    made = systemd.export(notes(), CONFIGURATIONS)
    unit = made.files["notes-1.container"]
    words = [word for text in values(unit, "Container", "Environment") for word in split_words(text)]
    assert "POSTGRES_PORT_5432_TCP_ADDR=webdb" in words
    assert "KIRSCH_UNIT=notes@1.container" in words
    assert values(unit, "Unit", "After") == ["webdb.service"]
    assert values(unit, "Container", "Secret") == ["notes-database,type=env,target=POSTGRES_PASSWORD"]
    assert "alias=postgres" in values(made.files["webdb.container"], "Container", "Network")[0]
    assert "X-Kirsch" not in "".join(made.files.values())
    assert "create the secret: podman secret create notes-database FILE" in made.remarks
    assert values(made.files["nightly.timer"], "Timer", "Unit") == ["backup.service"]


@pytest.mark.parametrize("export", [systemd.export, compose_export.export])
def test_haproxy_takes_the_balancers_configuration(export, tmp_path):
    made = export(notes(), CONFIGURATIONS)
    text = made.files["lb.haproxy.cfg"]
    assert "server-template notes- 2 notes:8080 check" in text
    (tmp_path / "haproxy.cfg").write_text(text)
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    assert haproxy, "apt-get install haproxy"
    checked = subprocess.run(
        [haproxy, "-c", "-f", tmp_path / "haproxy.cfg"],
        capture_output=True, text=True, env={"KIRSCH_ADDRESS": "127.0.0.1"}, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=30))
def test_any_value_of_a_link_reads_back(value):
    database = UnitFile.from_options(
        [
            ("Container", "Image", "db"),
            ("Container", "Environment", quoted(f"WORD={value}")),
            ("X-Kirsch", "Expose", "5432"),
            ("X-Kirsch", "ExposeEnv", "WORD"),
        ]
    ).text
    user = "[Container]\nImage=web\n[X-Kirsch]\nLink=db\n"
    texts = {"db.container": database, "web.container": user}
    made = systemd.export(Application("app", Path(), texts, {name: name for name in texts}, tuple(texts)), {})
    entries = UnitFile.parse(made.files["web.container"]).values("Container", "Environment")
    words = [word for entry in entries for word in split_words(entry.value)]
    # Backslash and quote are gone, and each % is two, for systemd makes one of them.
    assert f"DB_ENV_WORD={value}".replace("%", "%%") in words


def quoted(text):
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def test_a_compose_file_has_a_service_for_each_and_imports_again():
    made = compose_export.export(notes(), CONFIGURATIONS)
    document = yaml.safe_load(made.files["compose.yaml"])
    assert document["name"] == "notes"
    services = document["services"]
    assert set(services) == {"webdb", "notes", "lb", "backup"}
    assert services["notes"]["deploy"]["replicas"] == 2
    assert services["notes"]["depends_on"] == ["webdb"]
    assert services["webdb"]["networks"]["default"]["aliases"] == ["postgres"]
    assert services["lb"]["command"][-1] == services["lb"]["configs"][0]["target"]
    assert document["volumes"]["notes-webdb"] == {"name": "notes-webdb"}
    again = compose.read(
        made.files["compose.yaml"], file="compose.yaml", folder="notes",
        environment={"POSTGRES_PASSWORD": "x", "PGPASSWORD": "x"}, env_files={}, profiles=["run"],
    )  # fmt: skip
    assert "units/webdb.container" in again.files


def test_a_dollar_stays_one_in_a_compose_file():
    made = compose_export.export(
        one("[Container]\nImage=web\nEnvironment='PRICE=$5'\nExec=sh -c 'echo $HOME'\n"), {}
    )
    service = yaml.safe_load(made.files["compose.yaml"])["services"]["web"]
    assert service["environment"]["PRICE"] == "$$5"
    assert service["command"] == ["sh", "-c", "echo $$HOME"]


@pytest.mark.parametrize("form", ["systemd", "compose"])
def test_a_person_exports_the_notes(form, tmp_path):
    done = subprocess.run(
        [KIRSCH, "export", form, str(EXAMPLES / "notes"), "-o", str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "lb.haproxy.cfg" in done.stdout
    assert "note: " in done.stderr


def test_quadlets_stay_as_they_are_and_are_told_what_they_gain():
    text = "[Container]\nImage=web\nPublishPort=80:8080\nVolume=data.volume:/data\nNetwork=mine.network\n"
    made = quadlet.read({"web.container": text, "job@.container": "[Container]\nImage=job\n"})
    assert made.files["units/web.container"] == text
    assert made.files["kirsch.toml"] == 'start = ["web.container"]\n'
    told = "\n".join(made.remarks)
    for words in (
        "Expose=8080",
        "Health=tcp://:8080",
        "Sticky=yes",
        "Network=mine.network",
        "job@1.container",
    ):
        assert words in told


def test_a_person_imports_quadlets_and_a_procfile(tmp_path):
    (tmp_path / "quadlets").mkdir()
    (tmp_path / "quadlets/web.container").write_text("[Container]\nImage=web\n")
    (tmp_path / "quadlets/README").write_text("nothing")

    def kirsch(*words):
        return subprocess.run([KIRSCH, *words], capture_output=True, text=True, cwd=tmp_path, check=False)

    done = kirsch("import", "quadlet", "quadlets", "-o", "app")
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "app").start == ("web.container",)
    assert kirsch("import", "quadlet", "quadlets", "-o", "app").returncode == 1
    (tmp_path / "empty").mkdir()
    assert "there is no unit file in empty" in kirsch("import", "quadlet", "empty", "-o", "b").stderr
    (tmp_path / "Procfile").write_text("web: python -m http.server $PORT\n")
    done = kirsch("import", "procfile")
    assert done.returncode == 0, done.stderr
    assert load(tmp_path).start == ("web.service",)
    (tmp_path / "Procfile").write_text("nonsense\n")
    done = kirsch("import", "procfile", "--force")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Procfile:1:" in done.stderr
