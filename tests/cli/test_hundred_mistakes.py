"""A hundred mistakes: each is told in a line that has the word which helps, with a stable exit status.

In this process, for they are many; `kirsch` itself calls the same function.
"""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.application import Application

from kirsch.cli.main import main

# Unit files with one mistake each.
BAD = {
    "typo.service": "[Service]\nExecStrat=sleep 1\n",
    "case.service": "[Service]\nexecstart=sleep 1\n",
    "section.service": "[Servce]\nExecStart=sleep 1\n",
    "where.service": "[Unit]\nRestart=always\n[Service]\nExecStart=sleep 1\n",
    "link.service": "[Service]\nExecStart=sleep 1\nLink=db\n",
    "option.service": "[Service]\nExecStart=sleep 1\n[X-Kirsch]\nLinks=a\n",
    "first.service": "ExecStart=sleep 1\n",
    "unfinished.service": "[Service\nExecStart=sleep 1\n",
    "equals.service": "[Service]\nExecStart sleep 1\n",
    "restart.service": "[Service]\nRestart=allways\nExecStart=sleep 1\n",
    "span.service": "[Service]\nTimeoutStartSec=5 parsecs\nExecStart=sleep 1\n",
    "size.service": "[Service]\nExecStart=sleep 1\n[X-Kirsch]\nMemory=much\n",
    "port.service": "[Service]\nExecStart=sleep 1\n[X-Kirsch]\nExpose=eighty\n",
    "health.service": "[Service]\nExecStart=sleep 1\n[X-Kirsch]\nHealth=ftp://:80/\n",
    "yes.service": "[Service]\nExecStart=sleep 1\n[X-Kirsch]\nSticky=perhaps\n",
    "quote.service": '[Service]\nExecStart=sleep "1\n',
    "forking.service": "[Service]\nType=forking\nExecStart=sleep 1\n",
    "nothing.service": "[Service]\nUser=\n",
    "two.service": "[Service]\nExecStart=sleep 1\nExecStart=sleep 2\n",
    "specifier.service": "[Service]\nExecStart=%z\n",
    "condition.service": "[Unit]\nConditionPathExists=/x\n[Service]\nExecStart=sleep 1\n",
    "dynamic.service": "[Service]\nExecStart=sleep 1\nDynamicUser=yes\n",
    "relative.service": "[Service]\nWorkingDirectory=here\nExecStart=sleep 1\n",
    "nice.service": "[Service]\nNice=99\nExecStart=sleep 1\n",
    "image.container": "[Container]\nExec=sleep 1\n",
    "publish.container": "[Container]\nImage=x\nPublishPort=8080:80\n[X-Kirsch-Process]\nExecStart=sleep 1\n",
    "key.container": "[Container]\nImage=x\nPublishPorts=80:80\n[X-Kirsch-Process]\nExecStart=sleep 1\n",
    "kind.servce": "[Service]\nExecStart=sleep 1\n",
    "no type": "[Service]\nExecStart=sleep 1\n",
}

# What is typed in a folder without an application; the exit status; a word of the answer.
NOTHING_UP = [
    ("up nowhere", 1, "nowhere: no such directory"),
    ("up empty", 1, "kirsch init empty"),
    ("up toml", 1, "toml/kirsch.toml: Invalid value"),
    ("up key", 1, "unknown key 'nmae'; there are name"),
    ("up twice", 1, "there is no unit b"),
    ("up --detatch", 2, "did you mean --detach?"),
    ("up -x", 2, "unrecognized arguments: -x (see kirsch up --help)"),
    ("up a b", 2, "unrecognized arguments: b"),
    ("up --timeout soon", 2, "not a number of seconds"),
    ("up --timeout", 2, "requires an argument (see kirsch up --help)"),
    ("up . --on nowhere", 1, "kirsch init"),
    ("up ok --on nowhere", 1, "kirsch cluster create nowhere"),
    ("up ok/units", 1, "name its folder"),
    ("up ok/units/t@.service", 1, "kirsch start t@1"),
    ("down nowhere", 1, "nowhere: no such directory"),
    ("down --cluster lab", 2, "kirsch down --on lab"),
    ("dev nowhere", 1, "no such directory"),
    ("dev empty --module nothere", 1, "--module"),
    ("dev empty --image x", 2, "give --container too"),
    ("dev ok --port 80", 2, "units say themselves where they listen"),
    ("start a", 1, "kirsch up DIR"),
    ("stop", 2, "required: UNIT"),
    ("status a", 1, "kirsch up DIR"),
    ("journal -n x", 2, "not a number of lines"),
    ("journal --since yesterdy", 2, "write 10:30"),
    ("journal --grep (", 2, "no regular expression"),
    ("list-units --fields", 2, "see kirsch list-units --help"),
    ("list-units --output json", 2, "unrecognized arguments: --output"),
    ("scale notes", 2, "such as notes=3"),
    ("scale notes=-1", 2, "such as notes=3"),
    ("run", 2, "UNIT-OR-COMMAND"),
    ("secret", 2, "secret set"),
    ("secret get x", 2, "did you mean set?"),
    ("cluster crate x", 2, "did you mean create?"),
    ("cluster create lab --machines x", 2, "not a whole number"),
    ("cluster status", 1, "kirsch cluster create"),
    ("cluster destroy lab", 1, "there is no cluster lab"),
    ("image buld", 2, "did you mean build?"),
    ("image build nowhere -t x", 1, "no such directory"),
    ("frobnicate", 2, "there is no verb frobnicate"),
    ("strat", 2, "did you mean start"),
    ("get pods", 2, "kirsch list-units"),
    ("apply -f x", 2, "kirsch up"),
    ("enable a", 2, "kirsch start UNIT"),
    ("compose up", 2, "import compose"),
    ("docker ps", 2, "import compose"),
    ("help frobnicate", 1, "there is no verb frobnicate"),
    ("completion tcsh", 2, "'bash', 'zsh', 'fish'"),
    ("--versoin", 2, "did you mean --version?"),
    ("-C nowhere up", 1, "nowhere: No such file or directory"),
    ("--endpoint nowhere list-units", 1, "unix://PATH"),
    ("--endpoint http://x list-units", 1, "https://HOST:PORT"),
    ("--endpoint unix:///nowhere list-units", 1, "no kirschd answers"),
    ("--cluster nowhere list-units", 1, "kirsch cluster create nowhere"),
    ("--endpoint a --tunnel b list-units", 1, "give one of them"),
    ("--cluster", 2, "requires an argument"),
    ("verify nowhere.service", 1, "No such file or directory"),
    ("verify bad", 1, "Is a directory"),
    ("verify bad/typo.service", 1, "did you mean ExecStart=?"),
    ("verify bad/case.service", 1, "did you mean ExecStart=?"),
    ("verify bad/section.service", 1, "did you mean [Service]?"),
    ("verify bad/where.service", 1, "belongs into [Service]"),
    ("verify bad/link.service", 1, "belongs into [X-Kirsch]"),
    ("verify bad/option.service", 1, "did you mean Link?"),
    ("verify bad/first.service", 1, "stands before any [Section]"),
    ("verify bad/unfinished.service", 1, "[Name]"),
    ("verify bad/equals.service", 1, "missing '='"),
    ("verify bad/restart.service", 1, "always"),
    ("verify bad/span.service", 1, "1min 30s"),
    ("verify bad/size.service", 1, "512M"),
    ("verify bad/port.service", 1, "Expose"),
    ("verify bad/health.service", 1, "Health"),
    ("verify bad/yes.service", 1, "write yes or no"),
    ("verify bad/quote.service", 1, "never closed"),
    ("verify bad/forking.service", 1, "in the foreground"),
    ("verify bad/nothing.service", 1, "no ExecStart="),
    ("verify bad/two.service", 1, "Type=oneshot"),
    ("verify bad/specifier.service", 1, "%% for a percent sign"),
    ("verify bad/condition.service", 1, "cannot be checked"),
    ("verify bad/dynamic.service", 1, "cannot be given to a plain process"),
    ("verify bad/relative.service", 1, "not an absolute path"),
    ("verify bad/nice.service", 1, "-20 to 19"),
    ("verify bad/image.container", 1, "it has no Image="),
    ("verify bad/publish.container", 1, "write 80:80"),
    ("verify bad/key.container", 1, "did you mean PublishPort=?"),
    ("verify bad/kind.servce", 1, "did you mean service?"),
    ("verify 'bad/no type'", 1, "such as .service"),
    ("verify bad/latin.service", 1, "is not UTF-8"),
    ("import compose", 1, "name the compose file"),
    ("import procfile", 1, "Procfile: No such file"),
    ("export kubernetes", 1, "kirsch init"),
    ("init --template cherry", 2, "'cherrypy'"),
    ("init --template flask --with mysql", 1, "postgres, haproxy"),
    ("init nowhere", 1, "--template"),
    ("init nowhere --with redis", 1, "goes with --template"),
    ("init ok", 1, "kirsch up ok"),
    ("serve nocolon", 1, "such as shop.wsgi:application"),
    ("balancer --config x --backend y", 2, "notes=notes:8080"),
    ("ws localhost:1", 1, "nothing listens on localhost:1"),
]

# The same where an application is up.
UP = [
    ("start b", 1, "there is no unit b"),
    ("start a.servic", 1, "did you mean a.service?"),
    ("start t", 1, "t@1.service"),
    ("start t@", 1, "start an instance of it"),
    ("start ./nowhere.service", 1, "there is no such file"),
    ("start bad", 1, "last lines: oops"),
    ("stop 'x*'", 1, "no unit matches x*"),
    ("list-units 'x['", 1, "[a-z]"),
    ("list-units --fields unit,color", 1, "there are unit, machine"),
    ("submit nowhere.service", 1, "No such file"),
    ("submit changed/a.service", 1, "--replace"),
    ("scale a=2", 1, "is no template"),
    ("scale nothere=2", 1, "there is no unit nothere@"),
    ("exec a nosuchprogram", 127, "there is no such program"),
    ("exec bad ls", 1, "kirsch run"),
    ("run --link nothere true", 1, "nothere to link to"),
    ("run nosuchprogram", 1, "neither a unit nor a program"),
    ("ssh t@1", 1, "kirsch exec"),
    ("drain 127.0.0.1", 1, "only machine"),
    ("cordon 127.0.0.1", 1, "only machine"),
    ("move a", 1, "only machine"),
    ("metadata nowhere x=1", 1, "kirsch list-machines"),
    ("metadata 127.0.0.1 x", 2, "KEY=VALUE"),
    ("secret set bad/name", 1, "letters, digits"),
    ("secret rm nothere", 1, "there is no secret nothere"),
    ("release show web x", 2, "not a whole number"),
    ("rollback web 3", 1, "kirsch releases"),
    ("dev", 1, "kirsch down"),
    ("dev --cluster x", 2, "is not for dev"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with mistakes in them."""
    top = tmp_path_factory.mktemp("mistakes")
    for name in ("empty", "toml", "key", "twice", "ok/units", "bad"):
        (top / name).mkdir(parents=True)
    for name, text in BAD.items():
        (top / "bad" / name).write_text(text)
    (top / "bad/latin.service").write_bytes(b"\xff\xfe")
    good = "[Service]\nExecStart=sleep 1000\n"
    for name in ("key/a.service", "twice/a.service", "ok/units/a.service", "ok/units/t@.service"):
        (top / name).write_text(good)
    (top / "toml/kirsch.toml").write_text("name = \n")
    (top / "key/kirsch.toml").write_text('nmae = "x"\n')
    (top / "twice/kirsch.toml").write_text('start = ["b"]\n')
    (top / "ok/kirsch.toml").write_text('start = ["a"]\n')
    return top


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """An application that is up."""
    made = Application(tmp_path_factory.mktemp("up"))
    made.sleeper("a.service")
    made.sleeper("t@.service")
    made.unit("bad.service", "[Service]\nExecStart=sh -c 'echo oops; exit 3'\n")
    (made.directory / "changed").mkdir()
    (made.directory / "changed/a.service").write_text("[Service]\nExecStart=sleep 1\n")
    (made.directory / "kirsch.toml").write_text('name = "web"\nstart = ["a", "t@1"]\n')
    made.ok("up", "-d")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who has no cluster, and chose nothing."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("KIRSCH_")]:
        monkeypatch.delenv(name)


def told(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main(shlex.split(line))
    answer = capsys.readouterr()
    lines = [text for text in answer.err.splitlines() if not text.startswith("warning: ")]
    # A word that lacks its second is answered by a page.
    assert len(lines) == 1 or "what? There are" in lines[0], answer.err
    assert lines[0].startswith("kirsch"), answer.err
    assert answer.out == ""
    return status, "\n".join(lines)


@pytest.mark.parametrize(("line", "status", "word"), NOTHING_UP, ids=[line for line, _, _ in NOTHING_UP])
def test_where_nothing_is_up(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    status: int,
    word: str,
):
    monkeypatch.chdir(folder)
    found, answer = told(line, capsys)
    assert word in answer
    assert found == status
    assert not (folder / "nowhere").exists()


@pytest.mark.parametrize(("line", "status", "word"), UP, ids=[line for line, _, _ in UP])
def test_where_an_application_is_up(
    up: Application,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    status: int,
    word: str,
):
    monkeypatch.chdir(up.directory)
    found, answer = told(line, capsys)
    assert word in answer
    assert found == status


def test_they_are_more_than_a_hundred():
    assert len({line for line, _, _ in NOTHING_UP + UP}) > 100
