"""Which changes of files are seen, with real ones."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kirsch.cluster.network import inotify as module
from kirsch.cluster.network.inotify import Watch, WatchError


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    (tmp_path / "a.py").write_text("x = 1")
    with closing(Watch(tmp_path)) as watch:
        yield watch


def test_a_file_that_an_editor_saves_by_rename_has_changed(watch, tmp_path):
    (tmp_path / "a.py~").write_text("x = 2")
    os.replace(tmp_path / "a.py~", tmp_path / "a.py")
    assert tmp_path / "a.py" in next(watch.changes())


def test_what_goes_has_changed(watch, tmp_path):
    (tmp_path / "a.py").unlink()
    assert tmp_path / "a.py" in next(watch.changes())


def seen(changes: Iterator[frozenset[Path]], path: Path) -> None:
    """Returns once a file has changed."""
    while path not in next(changes):
        pass


def test_what_comes_and_goes_with_its_folder_has_changed(watch, tmp_path):
    changes = watch.changes()
    (tmp_path / "new/inner").mkdir(parents=True)
    (tmp_path / "new/inner/__init__.py").touch()
    seen(changes, tmp_path / "new/inner/__init__.py")
    os.rename(tmp_path / "new", tmp_path / "moved")
    change = next(changes)
    assert tmp_path / "new/inner/__init__.py" in change
    assert tmp_path / "moved/inner/__init__.py" in change
    (tmp_path / "moved/inner/b.py").write_text("x = 3")
    seen(changes, tmp_path / "moved/inner/b.py")


def test_of_many_files_none_is_missed(watch, tmp_path):
    files = [tmp_path / f"m{number}.py" for number in range(500)]
    for file in files:
        file.write_text("x = 1")
    changed: set[Path] = set()
    for more in watch.changes():
        changed |= more
        if changed.issuperset(files):
            break


def test_a_change_is_seen_where_something_else_changes_all_the_time(watch, tmp_path):
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(0.01):
            (tmp_path / "session").write_text("x")

    busy = threading.Thread(target=write)
    busy.start()
    try:
        (tmp_path / "a.py").write_text("x = 2")
        seen(watch.changes(), tmp_path / "a.py")
    finally:
        ended.set()
        busy.join()


def test_folders_that_are_gone_are_not_counted(watch, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST", 4)
    changes = watch.changes()
    for number in range(8):
        (tmp_path / f"built{number}").mkdir()
        next(changes)
        (tmp_path / f"built{number}").rmdir()
        next(changes)
    for number in range(4):
        (tmp_path / f"kept{number}").mkdir()
    with pytest.raises(WatchError, match="more than 4 folders"):
        seen(changes, tmp_path / "nothing")


def test_links_are_followed_and_environments_are_not(tmp_path):
    folder, shared = tmp_path / "app", tmp_path / "shared"
    for each in (folder / "env/lib", shared):
        each.mkdir(parents=True)
    (folder / "env/pyvenv.cfg").touch()
    (folder / "common").symlink_to(shared)
    (shared / "back").symlink_to(folder)
    with closing(Watch(folder)) as watch:
        changes = watch.changes()
        (folder / "env/lib/a.py").touch()
        (shared / "b.py").touch()
        (changed,) = next(changes)
    assert changed.samefile(shared / "b.py")
