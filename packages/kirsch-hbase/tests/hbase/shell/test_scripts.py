"""The shell without a terminal: -c, scripts, pipes, JSON, exit statuses."""

import json
import os
import signal
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
RUN = "import sys; from kirsch.cli.main import main; sys.exit(main())"


@pytest.fixture
def started(quorum, client, tmp_path):
    """Starts a shell on the server; its words, what it reads."""

    def start(*words, at=quorum):
        environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
        return subprocess.Popen(
            [sys.executable, "-c", RUN, "hbase", "shell", f"--quorum={at}", "--patience=60", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    return start


@pytest.fixture
def ran(started):
    """Runs one to its end: exit status, output, errors."""

    def run(*words, given="", **options):
        process = started(*words, **options)
        out, error = process.communicate(given)
        return process.returncode, out, error

    return run


def test_code(ran, name):
    code = f"create '{name}', 'f'; put '{name}', 'r', 'f:q', 'v'; put '{name}', \"\\xff\", 'f:q', 1"
    status, out, error = ran(
        "--json", "-c", code, "-c", f"scan '{name}'; count '{name}'", "-c", "import sys; sys.argv", "x"
    )
    assert (status, error) == (0, "")
    _, first, second, count, words = map(json.loads, out.splitlines())
    assert (first["row"], first["cells"][0]["column"], first["cells"][0]["value"]) == ("r", "f:q", "v")
    assert second["row"] == {"hex": "ff"}
    assert (count, words) == (2, ["-c", "x"])


def test_a_script(ran, name, tmp_path):
    (tmp_path / "mine.py").write_text("ROWS = 3\n")
    script = tmp_path / "fill.py"
    script.write_text(
        "import sys\nfrom mine import ROWS\n\n"
        f"create '{name}', 'f'\n"
        "for i in range(ROWS):\n"
        f"    put '{name}', f'{{sys.argv[1]}}{{i}}', 'f:q', i\n"
        f"for row in scan('{name}'):\n    print(row.key.decode())\n"
        f"scan '{name}x'\nprint('not run')\n"
    )
    status, out, error = ran(str(script), "key")
    assert (status, out.split()[2:]) == (1, ["key0", "key1", "key2"])
    assert error == f"kirsch: there is no table {name}x\n"


def test_a_pipe(ran):
    status, out, error = ran(given="1 + 1\nlist '\n")
    assert (status, out, error) == (2, "2\n", "kirsch: line 2: the string is not closed\n")
    status, out, error = ran(given="x = version\nx['SERVER'][0]\nexit 7\n2")
    assert (status, out, error) == (7, "2\n", "")


# What people paste from HBase's documentation: each statement builds on the one before.
PASTED = """\
t = create '{name}', 'f'
t.put 'r1', 'f:q', 'v1'; t.put 'r2', 'f:q', 'v2'
u = get_table '{name}'
u.scan LIMIT => 1
for i in 3..4 do put '{name}', "r#{{i}}", 'f:q', "v#{{i}}" end
(3..4).each do |i|
delete '{name}', "r#{{i}}", 'f:q'
end
count '{name}'
scan('{name}', {{:LIMIT => 2, COLUMNS: ['f:q']}}) {{ |row, cells| puts row; puts cells['f:q'] }}
list('{name}').each do |table|
  disable table
  drop table
end
exists '{name}'
"""


@pytest.mark.parametrize(
    "how",
    ["pipe", pytest.param("script", marks=pytest.mark.soak), pytest.param("code", marks=pytest.mark.soak)],
)
def test_scripts_and_pipes_take_what_the_terminal_takes(ran, name, tmp_path, how):
    source = PASTED.format(name=name)
    (tmp_path / "pasted").write_text(source)
    words = {"pipe": (), "script": (str(tmp_path / "pasted"),), "code": ("-c", source)}[how]
    status, out, error = ran(*words, given=source if how == "pipe" else "")
    assert (status, error) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["ROW", "r1"]
    assert lines[2:] == ["2", "r1", "v1", "r2", "v2", "false"]


def test_what_it_cannot_do(ran, tmp_path):
    status, out, error = ran("-c", "status", at="127.0.0.1:1")
    assert (status, out) == (1, "")
    assert error.startswith("kirsch: no ZooKeeper answers: 127.0.0.1:1 refused the connection")
    assert len(error.splitlines()) == 1
    status, _, error = ran(str(tmp_path / "absent.py"))
    assert (status, error) == (1, f"kirsch: {tmp_path}/absent.py: No such file or directory\n")
    status, _, error = ran("--config=x")
    assert (status, error) == (2, "kirsch: --quorum or --config, not both\n")


def test_java_is_shown_only_when_asked(ran):
    """What is shown else, the script above tells."""
    status, _, error = ran("--debug", "-c", "describe 'nowhere'")
    assert status == 1
    assert "TableNotFoundException" in error
    assert "\tat org.apache.hadoop.hbase" in error


@pytest.mark.slow
def test_it_is_interrupted_and_told_to_end(started):
    # One long sleep would not be woken by a signal that comes just before it.
    wait = "import time; print('now', flush=True); [time.sleep(0.1) for _ in range(6000)]"
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)):
        process = started("-c", f"status; {wait}")
        lines = iter(process.stdout.readline, "")
        assert any(line == "now\n" for line in lines)
        process.send_signal(number)
        _, error = process.communicate()
        assert process.returncode == status
        assert "Traceback" not in error
