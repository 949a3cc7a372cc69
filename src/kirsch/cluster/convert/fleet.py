"""Units of fleet read as an application: `docker run` lines become `.container` files. Pure.

`[X-Fleet]` holds as it is. A unit that runs no container is kept byte for byte.
"""

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from kirsch.cluster.convert import Converted
from kirsch.unit import UnitFile, UnitName

# Options of docker run that take a value, and the directive of [Container] that they become; "" is told.
VALUES = {
    "--add-host": "AddHost",
    "--cap-add": "AddCapability",
    "--cap-drop": "DropCapability",
    "--device": "AddDevice",
    "--dns": "DNS",
    "--dns-search": "DNSSearch",
    "--env": "Environment",
    "--env-file": "EnvironmentFile",
    "--expose": "Expose",
    "--hostname": "HostName",
    "--label": "Label",
    "--link": "Link",
    "--memory": "Memory",
    "--name": "Name",
    "--net": "Network",
    "--network": "Network",
    "--publish": "PublishPort",
    "--tmpfs": "Tmpfs",
    "--ulimit": "Ulimit",
    "--user": "User",
    "--volume": "Volume",
    "--workdir": "WorkingDir",
    "--entrypoint": "Entrypoint",
    "--cpu-shares": "",
    "--cpus": "CPU",
    "--log-driver": "",
    "--log-opt": "",
    "--restart": "",
    "--volumes-from": "",
}
SHORT = {
    "-e": "--env",
    "-h": "--hostname",
    "-l": "--label",
    "-m": "--memory",
    "-p": "--publish",
    "-u": "--user",
    "-v": "--volume",
    "-w": "--workdir",
    "-c": "--cpu-shares",
}
# Options without a value: what they become, or None where podman does that anyway.
SWITCHES = {
    "--rm": None,
    "--detach": None,
    "-d": None,
    "-i": None,
    "-t": None,
    "-it": None,
    "-ti": None,
    "-P": None,
    "--sig-proxy": None,
    "--init": "RunInit=true",
    "--privileged": "PodmanArgs=--privileged",
    "--read-only": "ReadOnly=true",
}
# Directives of [Service] that had to do with docker's client.
DOCKERS = re.compile(r"Exec(?:Start|StartPre|StartPost|Stop|StopPost|Reload)\Z")
_DOCKER = re.compile(r"(?:\S*/)?docker\Z")
_ETCD = re.compile(r"\betcdctl\b")


@dataclass(slots=True)
class Run:
    """A `docker run` line: options as directives, the image, and its command."""

    image: str = ""
    command: list[str] = field(default_factory=list)
    name: str = ""
    container: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def read(texts: Mapping[str, str]) -> Converted:
    """Return the application of fleet's unit files, given by name. Raises UnitError."""
    files = {name: UnitFile.parse(text, name) for name, text in texts.items()}
    names = {name: UnitName.parse(name) for name in texts}
    runs = {name: run for name, file in files.items() if (run := docker_run(file)) is not None}
    # docker's --link names containers; which unit runs each of them?
    services = {name: names[name].service for name in runs}
    containers = {run.name.replace("%p", services[name]): services[name] for name, run in runs.items()}
    written: dict[str, str] = {}
    remarks: list[str] = []
    for name, file in files.items():
        if name not in runs:
            written[f"units/{name}"] = file.text
            if _ETCD.search(file.text):
                words = "it announces something in etcd; kirsch publishes ready endpoints by itself"
                remarks.append(f"{name}: {words}")
            continue
        new = str(names[name]).removesuffix(f".{names[name].type}") + ".container"
        written[f"units/{new}"] = _container(name, file, runs[name], runs.keys(), containers, remarks)
    return Converted(written, tuple(remarks))


def docker_run(file: UnitFile) -> Run | None:
    """Return what a unit's ExecStart= has docker run; None where it runs something else. Raises UnitError."""
    entry = file.get("Service", "ExecStart")
    if entry is None:
        return None
    try:
        words = shlex.split(entry.value.lstrip("-@:+!"))
    except ValueError as error:
        raise file.error(f"ExecStart: {error}", entry) from None
    if words[:1] in (["/bin/sh"], ["/bin/bash"], ["/usr/bin/bash"], ["bash"], ["sh"]) and len(words) > 2:
        inner = words[-1].removeprefix("exec ")
        words = shlex.split(inner) if _DOCKER.match(inner.partition(" ")[0]) else words
    if len(words) < 3 or not _DOCKER.match(words[0]) or words[1] != "run":
        return None
    return _parsed(words[2:], file)


def _parsed(words: list[str], file: UnitFile) -> Run:
    run = Run()
    todo = iter(words)
    for word in todo:
        if not word.startswith("-"):
            run.image, run.command = word, list(todo)
            break
        name, equals, value = word.partition("=")
        if word[:2] in SHORT and not word.startswith("--"):
            name, value = word[:2], word[2:].removeprefix("=")
            equals = "=" if value else ""
        name = SHORT.get(name, name)
        if name in SWITCHES:
            if SWITCHES[name] and value != "false":
                run.container.append(str(SWITCHES[name]))
            continue
        if name not in VALUES:
            run.told.append(f"docker run {word} is not carried over")
            continue
        _take(run, VALUES[name], name, value if equals else next(todo, ""))
    if not run.image:
        raise file.error("ExecStart: docker run names no image", file.get("Service", "ExecStart"))
    return run


def _take(run: Run, directive: str, option: str, value: str) -> None:
    match directive:
        case "":
            run.told.append(f"docker run {option} {value} is not carried over")
        case "Name":
            run.name = value
        case "Link":
            target, _, alias = value.partition(":")
            run.links.append((target, alias))
        case "Expose" | "CPU":
            run.options.append(f"{directive}={value}")
        case "Memory":
            run.options.append(f"Memory={value.upper().removesuffix('B')}")
        case "PublishPort":
            run.container.append(f"PublishPort={value}")
            inside = value.rpartition(":")[2]
            run.options.append(f"Expose={inside.removesuffix('/tcp')}")
        case "Environment":
            run.container.append(f"Environment={_quoted(value)}")
        case _:
            run.container.append(f"{directive}={value}")


def _container(
    name: str,
    file: UnitFile,
    run: Run,
    converted: Collection[str],
    containers: Mapping[str, str],
    remarks: list[str],
) -> str:
    """The text of the `.container` in place of a unit."""
    image = run.image if "/" in run.image else f"docker.io/library/{run.image}"
    container = [f"Image={image}", *run.container]
    if run.command:
        container.append(f"Exec={' '.join(_quoted(word) for word in run.command)}")
    options = list(dict.fromkeys(run.options))
    for target, alias in run.links:
        service = containers.get(target, target)
        if target not in containers:
            remarks.append(f"{name}: no unit here runs the container {target}, which it links to")
        options.append(f"Link={service}" + (f":{alias}" if alias and alias != service else ""))
    remarks.extend(f"{name}: {words}" for words in run.told)
    sections: dict[str, list[str]] = {"Unit": [], "Container": container, "X-Kirsch": options, "Service": []}
    for section in file.sections:
        for entry in file.entries(section):
            line = f"{entry.name}={entry.value}"
            if section in ("X-Fleet", "X-Kirsch"):
                sections["X-Kirsch"].append(_renamed(line, converted))
            elif section == "Service":
                if not DOCKERS.match(entry.name):
                    sections["Service"].append(line)
                elif "docker" not in entry.value:
                    remarks.append(f"{name}: {line} is not carried over: a container has its own commands")
            elif section == "Unit":
                kept = _dependency(entry.name, entry.value)
                if kept:
                    sections["Unit"].append(kept)
            else:
                sections.setdefault(section, []).append(line)
    return "\n".join(_section(name, lines) for name, lines in sections.items() if lines)


def _dependency(name: str, value: str) -> str:
    """A line of [Unit] without docker.service and etcd.service, which no machine has here."""
    if name not in ("After", "Requires", "Wants", "BindsTo", "Before", "PartOf"):
        return f"{name}={value}"
    words = [word for word in value.split() if not re.match(r"(docker|etcd2?|flanneld|fleet)\.", word)]
    return f"{name}={' '.join(words)}" if words else ""


def _renamed(line: str, converted: Collection[str]) -> str:
    """A line of [X-Fleet] with units that are containers now under their new names."""
    for name in converted:
        stem = name.removesuffix(".service").removesuffix("@")
        line = re.sub(rf"(?<![\w.-])({re.escape(stem)}(?:@[^\s.]*)?)\.service\b", r"\1.container", line)
    return line


def _section(name: str, lines: list[str]) -> str:
    return f"[{name}]\n" + "".join(f"{line}\n" for line in lines)


def _quoted(word: str) -> str:
    if word and not re.search(r"[\s\"'\\;]", word):
        return word
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'
