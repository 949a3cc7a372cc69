"""First files of an application: kirsch.toml and units for a folder's code, or a small application with code.

Pure, but for reading the folder.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kirsch.cluster.application import procfile
from kirsch.cluster.application.folder import FILE, ApplicationError
from kirsch.cluster.application.templates import DATABASE, HAPROXY, TEMPLATES

CONTAINERFILES = ("Containerfile", "Dockerfile")
# Names of compose files, in the order in which they are looked for.
COMPOSE = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
EXTRAS = ("postgres", "haproxy")
# Files that are searched for an application; more are no small folder.
MOST = 200
ADDRESS = "${KIRSCH_ADDRESS}"


@dataclass(frozen=True, slots=True)
class Program:
    """A program that serves HTTP: how it is started, and its port. `kind` is the framework's name."""

    kind: str
    command: str
    port: int
    environment: str = ""
    # The path that answers once it is ready; without one a connection is enough.
    ready: str = ""


@dataclass(frozen=True, slots=True)
class Initial:
    """Files to write by path, and what to type next."""

    kind: str
    files: Mapping[str, str]
    next: tuple[str, ...] = field(default=())


def found_in(folder: Path) -> Initial:
    """Return files that run what a folder has. Raises ApplicationError if nothing is recognised."""
    name = _name(folder)
    containerfile = next((each for each in CONTAINERFILES if (folder / each).is_file()), "")
    if (folder / procfile.FILE).is_file():
        try:
            units = procfile.units((folder / procfile.FILE).read_text(), folder)
        except ValueError as error:
            raise ApplicationError(f"{folder / procfile.FILE}:{error}") from None
        # Units of a Procfile are made anew at each `kirsch up`.
        return Initial("a Procfile", {FILE: _settings(name, units, "")})
    program = _program(folder)
    if program is None and containerfile:
        return _image(folder, name, containerfile)
    if program is None:
        raise ApplicationError(
            f"{folder} has nothing that kirsch knows how to run: start with `kirsch init --template "
            f"{'|'.join(TEMPLATES)}` in an empty folder, or write a Procfile with a line as `web: COMMAND`"
        )
    files = {
        FILE: _settings(name, ["web"], f"http://localhost:{program.port}/", build=bool(containerfile)),
        "units/web.container": _unit(name, program, published=True, containerfile=containerfile),
    }
    return Initial(f"a {program.kind} application", files)


def template(kind: str, extras: Collection[str], folder: Path) -> Initial:
    """Return a small working application. Raises ApplicationError."""
    if kind not in TEMPLATES:
        raise ApplicationError(f"there is no template {kind}; there are {', '.join(TEMPLATES)}")
    if unknown := set(extras) - set(EXTRAS):
        raise ApplicationError(f"there is no {min(unknown)} to go with it; there are {', '.join(EXTRAS)}")
    if kind == "static" and "postgres" in extras:
        raise ApplicationError("static pages use no database: leave postgres out")
    name, made = _name(folder), TEMPLATES[kind]
    database, balanced = "postgres" in extras, "haproxy" in extras
    files = dict(made.files)
    requirements = [*made.requirements, *(["psycopg[binary]"] if database else [])]
    if requirements:
        files["requirements.txt"] = "".join(f"{each}\n" for each in requirements)
    if kind != "static":
        files["visits.py"] = DATABASE["visits.py"] if database else DATABASE["none"]
    program = Program(kind, made.command, 8080, "", made.ready)
    unit = _unit(name, program, published=not balanced, database=f"{name}-database" if database else "")
    files["units/web@.container" if balanced else "units/web.container"] = unit
    start = ["web@1", "web@2"] if balanced else ["web"]
    if database:
        files["units/db.container"] = DATABASE["unit"].replace("@NAME@", name)
        start = ["db", *start]
    if balanced:
        files["units/lb.container"] = HAPROXY["unit"].replace("@NAME@", name).replace("@READY@", made.ready)
        files["haproxy.cfg"] = HAPROXY["configuration"].replace("@READY@", made.ready)
        start = [*start, "lb"]
    files[FILE] = _settings(name, start, "http://localhost:8080/")
    install = ("python3 -m venv .venv", ".venv/bin/pip install -r requirements.txt") if requirements else ()
    return Initial(f"a {kind} application", files, install)


def _name(folder: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "application"


def _program(folder: Path) -> Program | None:
    """Return how to run a folder's code, or None."""
    if (folder / "manage.py").is_file():
        return Program("Django", f"python manage.py runserver --noreload {ADDRESS}:8000", 8000)
    texts = {path.stem: _read(path) for path in sorted(folder.glob("*.py"))[:MOST]}
    for module, text in texts.items():
        if match := re.search(r"^(\w+)\s*(?::\s*\w+\s*)?=\s*(?:fastapi\.)?FastAPI\(", text, re.MULTILINE):
            command = f"python -m uvicorn {module}:{match[1]} --host {ADDRESS} --port 8000"
            return Program("FastAPI", command, 8000)
    for module, text in texts.items():
        if re.search(r"\b(?:flask\.)?Flask\(__name__|^def create_app\(", text, re.MULTILINE):
            return Program("Flask", f"python -m flask --app {module} run --host {ADDRESS} --port 5000", 5000)
    for module, text in texts.items():
        if re.search(r"\bcherrypy\.(quickstart|engine\.start)\(", text):
            return Program("CherryPy", f"python {module}.py", 8080)
    if (folder / "package.json").is_file():
        return _node(folder / "package.json")
    if (folder / "index.html").is_file():
        return Program("static", f"python -m http.server --bind {ADDRESS} 8000", 8000, ready="/")
    return None


def _node(path: Path) -> Program:
    try:
        scripts = json.loads(_read(path)).get("scripts", {})
    except (ValueError, AttributeError):
        raise ApplicationError(f"{path}: is not JSON with an object in it") from None
    if "start" not in scripts:
        raise ApplicationError(f'{path}: has no script "start": add it, or write a Procfile')
    # Environment= expands no variables, as with systemd; a command does.
    return Program("Node.js", f"env HOST={ADDRESS} npm start", 3000, "PORT=3000")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _image(folder: Path, name: str, containerfile: str) -> Initial:
    """Return a unit that runs a folder's image: on a cluster, for kirsch up runs processes here."""
    exposed = re.search(r"^\s*EXPOSE\s+(\d+)", _read(folder / containerfile), re.MULTILINE | re.IGNORECASE)
    port = int(exposed[1]) if exposed else 8080
    unit = f"""\
[Unit]
Description={name}

[Container]
Image=localhost/{name}
PublishPort={port}:{port}

[X-Kirsch]
Health=tcp://:{port}

# To run here without a container, say how a process is started:
# [X-Kirsch-Process]
# ExecStart=COMMAND
"""
    files = {
        FILE: _settings(name, ["web"], f"http://localhost:{port}/", build=True),
        "units/web.container": unit,
    }
    return Initial(f"a {containerfile}", files, ("kirsch up --on CLUSTER",))


def _settings(name: str, start: Collection[str], address: str, *, build: bool = False) -> str:
    lines = [
        "# `kirsch up` reads this: the application's name, the address to show, the units to start.",
        f"name = {json.dumps(name)}",
        *([f"open = {json.dumps(address)}"] if address else []),
        f"start = {json.dumps([*start])}",
    ]
    if build:
        lines += ["", "# `kirsch up --on CLUSTER` builds this image.", f"[images.{name}]", 'build = "."']
    return "\n".join(lines) + "\n"


def _unit(
    name: str, program: Program, *, published: bool, containerfile: str = "", database: str = ""
) -> str:
    """Return the unit file of a program that serves HTTP."""
    image = "" if containerfile else "# To be built of a Containerfile: see [images] in kirsch.toml.\n"
    port = f"PublishPort={program.port}:{program.port}"
    health = f"http://:{program.port}{program.ready}" if program.ready else f"tcp://:{program.port}"
    links = "# visits.py reads the address from POSTGRES_ variables, and the password.\nLink=db:postgres\n"
    links += f"Secret={database}:POSTGRES_PASSWORD\n"
    return f"""\
[Unit]
Description={name}

# On a cluster this runs in a container.
[Container]
{image}Image=localhost/{name}
{port if published else "# Only the balancer is reached from outside."}

[X-Kirsch]
Expose={program.port} http
{links if database else ""}# Ready, and given requests, once this answers.
Health={health}

# `kirsch up` runs this program. `python` is that of .venv, or of the environment that is active.
[X-Kirsch-Process]
Environment={program.environment or "PYTHONUNBUFFERED=1"}
ExecStart={program.command}
Restart=on-failure
"""
