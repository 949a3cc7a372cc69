"""Unit files against a cluster, before anything is submitted: what no machine can have, what is not there."""

import pytest

from kirsch.cluster.model import Cluster, Machine, Unit, UnitRecord
from kirsch.cluster.node.verify import Verdict, judge, verify
from kirsch.unit import Options, UnitError, UnitFile, UnitName

RUNS = ("container", "service")
ONE = Machine("m1", "10.0.0.1", {"zone": "a"}, runs=RUNS)
TWO = Machine("m2", "10.0.0.2", {"zone": "b"}, runs=RUNS)
SERVICE = "[Service]\nExecStart=sleep 1\n"
LINKED = f"{SERVICE}[X-Kirsch]\nLink="


def there(name: str, text: str, desired: str = "launched") -> Unit:
    parsed, file = UnitName.parse(name), UnitFile.parse(text, name)
    return Unit(parsed, file, Options.parse(file, parsed), UnitRecord(file.hash, desired))


def judged(texts: dict[str, str], *units: Unit, secrets: tuple[str, ...] = ()) -> dict[str, Verdict]:
    cluster = Cluster({"m1": ONE, "m2": TWO}, {unit.name: unit for unit in units})
    return judge(
        texts, cluster, lambda name, file: [], lambda names: [name for name in names if name not in secrets]
    )


def test_what_the_machines_can_have_and_finds_all_it_names_is_well():
    texts = {
        "db.service": f"{SERVICE}[X-Kirsch]\nExpose=5432\nSecret=word:WORD\nSticky=yes\n",
        "web@.service": f"{LINKED}db\nMachineMetadata=zone=b\nSecret=word:WORD\n",
        "front.service": f"{LINKED}web\nGlobal=true\n",
    }
    assert judged(texts, secrets=("word",)) == dict.fromkeys(texts, Verdict())


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        ({"a.service": f"{SERVICE}[X-Kirsch]\nMachineMetadata=disk=ssd\n"},
         "no machine can have it: machine m1: MachineMetadata wants disk=ssd, it has no disk; "
         "machine m2: MachineMetadata wants disk=ssd, it has no disk"),
        ({"a.timer": "[Timer]\nOnCalendar=daily\n"},
         "no machine can have it: machine m1: its systemd runtime runs no .timer units; "
         "machine m2: its systemd runtime runs no .timer units"),
        ({"a.service": f"{LINKED}b\n", "b.service": f"{LINKED}a\n"},
         "links go in a circle: a.service -> b.service -> a.service"),
        ({"a.service": f"{SERVICE}[X-Kirsch]\nLinks=b\n"},
         'a.service:4:1: unrecognized requirement in [X-Kirsch] section: "Links"; did you mean Link?'),
    ],
)  # fmt: skip
def test_what_would_run_nowhere(texts: dict[str, str], error: str):
    assert judged(texts)["a.service" if "a.service" in texts else "a.timer"].error == error


def test_a_port_that_each_machine_has_given_already():
    box = "[Container]\nImage=x\nPublishPort=80:80\n"
    given = {f"{name}.container": box for name in ("a", "b", "c")}
    verdicts = judged(given)
    assert [verdict.error for verdict in verdicts.values()][:2] == ["", ""]
    assert verdicts["c.container"].error.startswith("no machine can have it: machine m1: ")
    assert verdicts["c.container"].error.count("publishes port 80/tcp there") == 2


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (f"{SERVICE}[X-Kirsch]\nSecret=word:WORD\n",
         "secret word is not set: kirsch secret set word < FILE"),
        (f"{LINKED}nobody\n", "Link=nobody: there is no unit nobody"),
        (f"{LINKED}tried@9.service\n", "Link=tried@9.service: there is no unit tried@9.service"),
        (f"[Unit]\nRequires=db.service\n{SERVICE}",
         "Requires=db.service: it may be on another machine; MachineOf=db.container keeps both on one"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_warning(text: str, warning: str):
    db = there("db.container", "[Container]\nImage=x\n")
    assert judged({"tried@.service": text}, db)["tried@.service"] == Verdict("", (warning,))


def test_what_is_on_the_same_machine_may_be_required_and_what_others_have_too():
    db = there("db.container", "[Container]\nImage=x\n")
    needs = "[Unit]\nRequires=db.service\nBindsTo=docker.service\n"
    text = f"{needs}{SERVICE}[X-Kirsch]\nMachineOf=db.container\n"
    assert judged({"a.service": text}, db)["a.service"] == Verdict()


def test_a_role_that_nobody_has_and_a_name_that_another_has():
    roles = "Health=tcp://:80\nHealthRole=primary tcp://:81\nHealthRole=replica tcp://:82\n"
    texts = {
        "db@.service": f"{SERVICE}[X-Kirsch]\n{roles}",
        "web.service": f"{LINKED}db db/replica db/arbiter\n",
    }
    db = there("db@1.service", f"{SERVICE}[X-Kirsch]\n{roles}")
    verdicts = judged(texts, db)
    assert verdicts["web.service"].warnings == ("Link=db/arbiter: db@1.service has no HealthRole=arbiter",)
    assert verdicts["db@.service"] == Verdict()
    taken = judged(texts, db, there("db-replica.service", SERVICE))
    assert taken["db@.service"].warnings == (
        "HealthRole=replica: the name db-replica leads to db-replica.service: give the role another name",
    )


def test_another_text_of_a_unit_that_is_there_takes_its_place():
    box = "[Container]\nImage=x\nPublishPort=80:80\n"
    old = there("a.container", box)
    assert judged({"a.container": f"{box}PublishPort=81:81\n"}, old)["a.container"] == Verdict()


def test_the_runtimes_own_words_are_told():
    def check(name: UnitName, file: UnitFile) -> list[str]:
        if file.has("Container"):
            raise UnitError("no Image= key specified", name.text)
        return [f"{name}: PrivateTmp= is not honoured"]

    texts = {"a@.service": SERVICE, "b.container": "[Container]\nExec=x\n"}
    assert judge(texts, Cluster({"m1": ONE}), check, lambda names: ()) == {
        "a@.service": Verdict("", ("a@1.service: PrivateTmp= is not honoured",)),
        "b.container": Verdict("b.container: no Image= key specified"),
    }


@pytest.mark.parametrize(
    ("volume", "options", "hinted"),
    [
        ("data:/data", "", True),
        ("data.volume:/data:Z", "", True),
        ("data:/data", "Sticky=yes", False),
        ("data:/data", "OnPartition=stop", False),
        ("data:/data", "OnPartition=keep", False),
        ("data:/data", "Global=yes", False),
        ("data:/data:ro,Z", "", False),
        ("/dev/log:/dev/log", "", False),
        ("/data", "", False),
    ],
)
def test_a_volume_hints_at_what_happens_to_it_on_another_machine(volume, options, hinted):
    text = f"[Container]\nImage=x\nVolume={volume}\n[X-Kirsch]\n{options}\n"
    warnings = judged({"a.container": text})["a.container"].warnings
    assert verify("a.container", text, "a.container", lambda name, file: []) == list(warnings)
    if hinted:
        assert warnings == (
            f"a.container:3:8: Volume={volume}: each machine has its own {volume.partition(':')[0]}: "
            "Sticky=yes keeps the unit with its data; without it a machine that is cut off runs a second one "
            "(OnPartition=)",
        )
    else:
        assert warnings == ()
