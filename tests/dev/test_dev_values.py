"""What follows from changes of files."""

from pathlib import Path

from kirsch.cluster.application import Application
from kirsch.cluster.dev.reload import Reload, units_of_code
from kirsch.cluster.dev.syntax import check


def test_a_mistake_is_told_with_file_line_and_mark():
    wrong = check({"webapp/a.py": "x = 1\ny = (\n", "webapp/b.py": "x = 1\n"})
    assert list(wrong) == ["webapp/a.py"]
    first, line, mark = wrong["webapp/a.py"].splitlines()
    assert first == "webapp/a.py:2: SyntaxError: '(' was never closed"
    assert line.strip() == "y = ("
    assert mark.index("^") == line.index("(")


def test_a_null_byte_is_a_mistake_too():
    assert check({"a.py": "x\0"})["a.py"].startswith("a.py:1: ")


def test_nothing_is_reloaded_while_another_file_is_wrong(tmp_path):
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("(")
    two.write_text("x = 1")
    reload = Reload(tmp_path, check)
    assert list(reload.changed([one]).wrong) == ["one.py"]
    assert list(reload.changed([two]).wrong) == ["one.py"]
    one.write_text("x = 1")
    mended = reload.changed([one])
    assert (mended.code, mended.names, dict(mended.wrong)) == (True, ("one.py",), {})


def test_a_wrong_file_that_is_removed_is_forgotten(tmp_path):
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("(")
    two.write_text("x = 1")
    reload = Reload(tmp_path, check)
    assert reload.changed([one]).wrong
    one.unlink()
    assert reload.changed([one]).code


def test_what_is_neither_code_nor_a_unit_changes_nothing(tmp_path):
    reload = Reload(tmp_path, check)
    for name in ("style.css", ".#webapp.py", "notes.py~", "4913"):
        (tmp_path / name).write_text("(")
        change = reload.changed([tmp_path / name])
        assert (change.code, change.units, dict(change.wrong)) == (False, False, {}), name
    (tmp_path / "notes@.container").write_text("[Container]\n")
    assert reload.changed([tmp_path / "notes@.container"]).units


def test_only_units_that_run_the_folders_code_are_restarted(tmp_path):
    (tmp_path / "webapp").mkdir()
    (tmp_path / "webapp/__init__.py").touch()
    (tmp_path / "job.py").touch()
    (tmp_path / "haproxy.cfg").touch()
    commands = {
        "notes@.container": "python -m webapp",
        "lb.container": "kirsch balancer --config haproxy.cfg",
        "db.container": "python -m kirsch.sql.postgres",
        "job.service": "python job.py",
        "inner.service": "python -m webapp.model",
    }
    units = {
        name: f"[{'Service' if name.endswith('.service') else 'X-Kirsch-Process'}]\nExecStart={command}\n"
        for name, command in commands.items()
    }
    application = Application("notes", Path(tmp_path), units)
    started = ["db.container", "notes@1.container", "notes@2.container", "job.service", "lb.container"]
    assert units_of_code(application, started) == ["notes@1.container", "notes@2.container", "job.service"]
