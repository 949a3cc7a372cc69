"""Files of the commit, of which releases are built, never those of the working tree; and Pythons to do it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, folder: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """Run a command and return its output; what it said is shown where it fails."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def versions() -> tuple[str, str]:
    """Return the version in the commit's files, and the one to build: that of its tag, where it has one."""
    written: str = tomllib.loads(run("git", "show", "HEAD:pyproject.toml"))["project"]["version"]
    tags = run("git", "tag", "--points-at", "HEAD", "--list", "v[0-9]*").split()
    if len(tags) > 1:
        sys.exit(f"the commit is tagged {' and '.join(tags)}: leave one of them")
    return written, tags[0].removeprefix("v") if tags else written


def stamp(text: str, written: str, version: str) -> str:
    """Put a version in the place of the written one: the project's, and of the distributions it needs."""
    text = re.sub(rf'^version = "{re.escape(written)}"$', f'version = "{version}"', text, flags=re.MULTILINE)
    return re.sub(rf'(kirsch[a-z-]*)=={re.escape(written)}(?=")', rf"\1=={version}", text)


def unpack(tree: str, target: Path) -> None:
    """Write a tree as git names it: COMMIT, or COMMIT:FOLDER."""
    with tempfile.TemporaryDirectory() as temporary:
        archive = Path(temporary, "tree.tar")
        run("git", "archive", "--output", archive, tree)
        shutil.unpack_archive(archive, target, filter="data")


def export(folder: Path, target: Path) -> None:
    """Write a folder of the commit, with the version that is built."""
    unpack("HEAD" if folder == ROOT else f"HEAD:{folder.relative_to(ROOT)}", target)
    project = target / "pyproject.toml"
    project.write_text(stamp(project.read_text(), *versions()))


def find_python(version: str) -> str | None:
    """Return a Python of a version such as 3.13, on PATH or among pyenv's; None if there is none."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    others = sorted(kept.glob(f"{version}.*/bin/python{version}"))
    found = [shutil.which(f"python{version}"), *map(str, others)]
    for python in filter(None, found):
        # pyenv has a program on PATH for each, which refuses where that one is not chosen.
        if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return python
    return None
