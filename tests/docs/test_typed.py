"""The README's tour, the tutorials and guides, typed as they stand there into an empty folder.

What is printed is what the page says, but for numbers.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.typed import Command, File, Shell, same, steps, words
from tests.port import free_port

from kirsch.robot.application import Application

ROOT = Path(__file__).parents[2]
NOTES = ROOT / "examples/notes"
TUTORIALS = ("tutorial", "flask-to-machines", "chat-tutorial")
HOW_TO = ("django", "fastapi", "node", "tls", "backup", "rotation", "ci")
PAGES = [
    "flask",
    *(pytest.param(page, marks=pytest.mark.soak) for page in (*TUTORIALS, *HOW_TO)),
]


@pytest.fixture
def notes() -> Iterator[Application]:
    application = Application.copy(NOTES, free_ports=True)
    try:
        application.start(120)
        yield application
    finally:
        application.stop()
        application.remove()


def environment() -> dict[str, str]:
    """That of a reader who has kirsch on the PATH, and its environment active."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("KIRSCH_")}
    return given | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "VIRTUAL_ENV": sys.prefix}


def test_a_page_is_read_as_its_reader_does():
    page = """
Do this:

    $ mkdir a && cd a
    $ cat > b <<'END'
    # c
    END
    d 12
    …

```python
# e/f.py
pass
```

```python
pass
```

<!-- typed: machines -->

    $ g
"""
    assert list(steps(page)) == [
        Command("mkdir a && cd a"),
        Command("cat > b <<'END'\n# c\nEND", ["d 12", "…"], ends_block=True),
        File("e/f.py", "# e/f.py\npass\n"),
    ]
    assert [step.typed for step in steps(page, "machines") if isinstance(step, Command)] == ["g"]


def test_lines_are_the_same_but_for_numbers_and_holes():
    assert same(["a 1", "…", "z"], ["a 23", "b", "c", "z"])
    assert same(["a", "…"], ["a"])
    assert not same(["a"], ["a", "b"])
    assert not same(["a", "…", "z"], ["a", "z", "b"])


@pytest.mark.services
@pytest.mark.slow
def test_the_tour_is_as_it_says(notes: Application):
    text = (ROOT / "README.md").read_text()
    text = text[text.index("in a second terminal") : text.index("Go back to the first terminal")]
    typed = [step for step in steps(text) if isinstance(step, Command)]
    assert len(typed) > 8
    shell = Shell(notes.directory, notes.environment() | environment())
    try:
        for command in typed:
            if not command.typed.startswith("export PATH"):
                shell.follow(command)
    finally:
        shell.end()


@pytest.mark.services
@pytest.mark.slow
def test_what_up_says_is_as_it_says(notes: Application):
    text = (ROOT / "README.md").read_text()
    block = text[text.index("notes is up: http") : text.index("Write a note in the browser.")]
    # A terminal has the dashboard's address there, what is no terminal the verb that opens it.
    first = "Ctrl-C stops it."
    told = {words(first if line.strip().startswith(first) else line) for line in block.splitlines()}
    said = {words(first if line.startswith(first) else line) for line in str(notes.output).splitlines()}
    assert told - {""} <= said


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_as_it_says(tmp_path: Path, page: str):
    """In the environment that is active: what makes another is passed over."""
    text = (ROOT / f"docs/{page}.md").read_text()
    # Others may have the ports of this computer; an application's own 8080 is at an address of its own.
    ports = {port: str(free_port()) for port in sorted(set(re.findall(r"localhost:(\d+)", text)))}
    for port, free in ports.items():
        text = re.sub(r"(?<=localhost:)8080\b" if port == "8080" else rf"\b{port}\b", free, text)
    shell = Shell(tmp_path, environment() | {"HOME": str(tmp_path)})
    try:
        for step in steps(text):
            if isinstance(step, File):
                shell.write(step)
            elif not re.search(r"\.venv\b|^make ", step.typed):
                shell.follow(step)
                if step.typed.startswith("kirsch init"):
                    _adapt(shell.place(), ports)
    finally:
        folder = shell.place()
        shell.end()
        subprocess.run(["kirsch", "down", ".", "--volumes", "--yes"], cwd=folder, env=environment())


def _adapt(folder: Path, ports: dict[str, str]) -> None:
    """Take other ports, and watch instances less long than people would."""
    for path in (
        folder / name for name in ("kirsch.toml", "haproxy.cfg", "units/lb.container", "units/web.container")
    ):
        for port, free in ports.items() if path.exists() else ():
            path.write_text(path.read_text().replace(port, free))
    with (folder / "kirsch.toml").open("a") as file:
        file.write('\n[release]\nhealthy_for = "100ms"\n')
