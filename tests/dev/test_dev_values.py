"""What follows from changes of files."""

import os
from pathlib import Path

from kirsch.cluster.application import Application
from kirsch.cluster.dev.inputs import of_image, requirements
from kirsch.cluster.dev.program import CONFIGURATION, Container
from kirsch.cluster.dev.reload import Change, Reload, units_of_code
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


def test_what_is_nested_too_deeply_is_a_mistake_too():
    (wrong,) = check({"a.py": "-" * 200_000 + "1"}).values()
    assert wrong.startswith("a.py:1: ")
    assert wrong != "a.py:1: "


def test_of_many_files_the_first_are_named():
    assert Change(("a.py", "b.py")).shown == "a.py, b.py"
    assert Change(tuple(f"{letter}.py" for letter in "abcde")).shown == "a.py, b.py, c.py and 2 more"


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


def test_what_an_image_is_built_from_is_what_its_containerfile_names_and_pip_reads(tmp_path):
    (tmp_path / "Containerfile").write_text(
        'FROM localhost/kirsch/web\nCOPY ./alembic.ini etc/notes.toml "logo.svg" ./\nCOPY webapp/ job.py .\n'
        "RUN --mount=type=bind,source=pyproject.toml,target=/p.toml pip install -r requirements.txt\n"
    )
    (tmp_path / "requirements.txt").write_text("-r more/web.txt\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/web.txt").write_text("-c ../limits.txt\niniconfig\n")
    (tmp_path / "limits.txt").write_text("iniconfig<3\n")
    pip = ["limits.txt", "more/web.txt", "requirements.txt"]
    built = [
        *pip,
        "Containerfile",
        ".containerignore",
        "alembic.ini",
        "etc/notes.toml",
        "logo.svg",
        "pyproject.toml",
    ]
    others = ["README.md", "webapp/__init__.py", "webapp/page.css", "job.py", "Containerfile~"]
    paths = {tmp_path / name for name in (*built, *others)}
    assert of_image(tmp_path, paths) == sorted(built)
    assert requirements(tmp_path, paths) == pip
    # What is gone has changed too.
    (tmp_path / "Containerfile").unlink()
    (tmp_path / "requirements.txt").unlink()
    assert of_image(tmp_path, paths) == [".containerignore", "Containerfile", "requirements.txt"]


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


def test_a_container_has_the_folders_code_mounted_not_the_module_alone(tmp_path):
    folder, settings = tmp_path / "app", tmp_path / "settings/cherryd.conf"
    settings.parent.mkdir()
    for name in ("webapp", "templates", "a:b", ".git", "venv", "node_modules"):
        (folder / name).mkdir(parents=True)
    for name in ("model.py", "README.md"):
        (folder / name).touch()
    program = Container(folder, "webapp", 8080, settings, "image", "name")
    before = os.umask(0o077)
    try:
        argv = program.command().argv
    finally:
        os.umask(before)
    volumes = [argv[at + 1] for at, word in enumerate(argv) if word == "--volume"]
    assert volumes == [
        *(f"{folder / name}:/home/web/{name}:ro" for name in ("model.py", "templates", "webapp")),
        f"{settings}:{CONFIGURATION}:ro",
    ]
    # The container's user is another one than who runs kirsch.
    assert settings.stat().st_mode & 0o777 == 0o644
    assert settings.parent.stat().st_mode & 0o777 == 0o755
