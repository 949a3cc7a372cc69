"""Which cluster is meant, and what a person is told who says it wrong; no machine is asked."""

import json
import socket
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from kirsch.cli.errors import reported
from kirsch.cli.main import main
from kirsch.cluster.provision.create import planned
from kirsch.cluster.provision.record import ClusterRecord, Interrupted
from kirsch.cluster.provision.shell import remote
from kirsch.cluster.provision.specification import FIRST_PORT, Site, Specification


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No cluster, and nothing said in the environment."""
    for name in ("KIRSCH_CLUSTER", "KIRSCH_ENDPOINT", "KIRSCH_TUNNEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def clusters() -> tuple[str, ...]:
    """Records of three."""
    names = ("blue", "kirsch", "red")
    for name in names:
        site = Site(IPv4Network("10.201.7.0/24"), FIRST_PORT)
        planned(Specification.parse(name, 1), "c0ffee", site).save()
    return names


def fails(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 1) -> str:
    """The one line that a command line fails with."""
    try:
        ended = main(arguments)
    except SystemExit as error:
        ended = error.code
    said = capsys.readouterr().err.splitlines()
    assert (ended, len(said)) == (status, 1), said
    return said[0].removeprefix("kirsch: ")


@pytest.mark.parametrize(
    ("arguments", "variable", "meant"),
    [
        (["cluster", "ssh-config"], "", "kirsch"),
        (["cluster", "ssh-config"], "red", "red"),
        (["cluster", "ssh-config", "--cluster", "blue"], "red", "blue"),
        (["--cluster", "blue", "cluster", "ssh-config"], "red", "blue"),
        (["cluster", "ssh-config", "blue"], "red", "blue"),
        (["cluster", "ssh-config", "blue", "--cluster", "blue"], "", "blue"),
    ],
)
def test_a_cluster_is_named_by_its_name_the_option_or_the_variable(
    clusters, arguments, variable, meant, monkeypatch, capsys
):
    if variable:
        monkeypatch.setenv("KIRSCH_CLUSTER", variable)
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith(f"Host n1 {meant}-n1\n")


@pytest.mark.parametrize("verb", ["status", "ssh-config", "destroy", "create"])
def test_two_names_that_differ_are_refused(clusters, verb, capsys):
    error = fails(capsys, "cluster", verb, "blue", "--cluster", "red", status=2)
    assert error == "blue and --cluster red are two clusters: name one"


def test_what_is_destroyed_is_named_where_there_are_several(clusters, capsys):
    assert fails(capsys, "cluster", "destroy") == ("which cluster? Name it; there are blue, kirsch, red")


def test_the_verbs_below_a_word_are_listed(capsys):
    assert main(["cluster", "--help"]) == 0
    page = capsys.readouterr().out
    assert main(["help", "cluster"]) == 0
    assert capsys.readouterr().out == page
    assert "  cluster create " in page
    assert main(["cluster"]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"kirsch: cluster what? There are\n{page}")
    error = fails(capsys, "cluster", "crate", status=2)
    assert error.startswith("cluster what? There are create, list, ")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["ssh"], 2, "the following arguments are required: MACHINE|UNIT (see"),
        (["journal", "-n", "abc"], 2, "argument -n/--lines: 'abc' is not a number of lines (see"),
        (
            ["--endpoint", "bogus", "list-units"],
            1,
            "bogus: no socket is there; an endpoint is unix:",
        ),
        (["cluster", "create", "--metadata", "hostname=a"], 2, "--metadata hostname=a: hostname is what"),
    ],
)
def test_what_is_typed_wrong_is_told_in_plain_words(arguments, status, words, capsys):
    assert fails(capsys, *arguments, status=status).startswith(words)


def test_a_file_of_certificates_that_is_missing_is_named(clusters, tmp_path, monkeypatch, capsys):
    for name in ("AUTHORITY", "CERTIFICATE"):
        (tmp_path / name).write_text("")
        monkeypatch.setenv(f"KIRSCH_TLS_{name}", str(tmp_path / name))
    monkeypatch.setenv("KIRSCH_TLS_KEY", str(tmp_path / "none.key"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        error = fails(capsys, "--endpoint", f"https://127.0.0.1:{port}", "list-units")
    assert error == f"{tmp_path}/none.key: there is no such file"


def test_a_word_alone_is_the_far_shells_to_read():
    assert remote([]) == []
    assert remote(["a; b"]) == ["--", "a; b"]
    assert remote(["echo", "a; b"]) == ["--", "echo 'a; b'"]


def test_who_interrupts_has_the_status_of_shells(capsys):
    def interrupted() -> int:
        raise Interrupted("machines: interrupted; nothing is left behind")

    assert reported(interrupted) == 130
    assert capsys.readouterr().err == "kirsch: machines: interrupted; nothing is left behind\n"


def test_prometheus_is_told_each_machine(clusters, capsys):
    assert main(["metrics", "targets", "blue"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["targets"] == [ClusterRecord.load("blue").machines[0].endpoint.removeprefix("https://")]
    assert found["labels"]["cluster"] == "blue"
    assert "there is no cluster green" in fails(capsys, "metrics", "targets", "green")
