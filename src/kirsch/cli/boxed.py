"""A one-off command in a container, on a machine of a cluster: attached here, removed when it has ended."""

import os
import select
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kirsch.cli.errors import Failure
from kirsch.cli.foreground import tie
from kirsch.cluster.image.reference import ImageError, Reference
from kirsch.cluster.runtime.systemd.podman import NAMES, one_off_folder, sweep_containers

# The flat network, where the machine is in one.
NETWORK = "kirsch"
# Of podman's own: what a person gives by these names is not for it.
OWN = frozenset({"PATH", "HOME", "TMPDIR", "LANG", "REGISTRY_AUTH_FILE"})
# containers-certs.d(5): the registries that the machine has certificates for; a cluster's own is one.
REGISTRIES = Path("/etc/containers/certs.d")
GRACE = 5  # seconds that a command has to end once nobody listens any more


def run_boxed(context: Mapping[str, Any], argv: Sequence[str], given: Mapping[str, str]) -> int:
    """Run a command in another container like a unit's, or, where `context` knows none, its first word being
    an image, in one of that. `given` are variables that win over all. Its exit status. Raises Failure."""
    if shutil.which("podman") is None:
        raise Failure("podman is not installed on this machine: no container can run here")
    if os.geteuid() != 0:
        raise Failure("only root can run a container on a machine of a cluster")
    like = list(context["container"])
    image, command = (like[-1], argv) if like else (_image(argv[0]), argv[1:])
    name = f"{NAMES}{uuid.uuid4().hex[:12]}"
    secrets = {each: context["environment"][each] for each in context["secrets"] if each not in given}
    variables = {each: value for each, value in context["environment"].items() if each not in secrets}
    variables |= given
    whole = [
        # What it prints is ours alone: no journal keeps a database's dump.
        *("podman", "run", "--rm", "--interactive", "--log-driver=none", f"--name={name}"),
        *(["--tty"] if sys.stdin.isatty() else []),
        *like[:-1],
        *_network(like, context["dns"]),
        *(f"--add-host={host}:{address}" for host, address in context["hosts"].items()),
        *handed_on(variables),
        *(f"--secret={name}-{each},type=env,target={each}" for each in secrets),
        image,
        *command,
    ]
    environment = with_variables(variables)
    sweep_containers()
    with one_off_folder(name) as folder:
        _make_secrets(name, folder, secrets)
        return _attached(whole, environment, name)


def _make_secrets(name: str, folder: Path, secrets: Mapping[str, str]) -> None:
    """Variables as secrets of podman's, which shows their values to nobody, and reads them, in memory, from
    files of ours (podman-secret-create(1), driver shell)."""
    for variable, value in secrets.items():
        file = folder / variable
        file.write_bytes(value.encode("utf-8", "surrogateescape"))
        options = ("list=true", "delete=true", "store=cat >/dev/null", f"lookup=cat {file}")
        driver = ["--driver=shell", *(f"--driver-opts={option}" for option in options)]
        status, said = _podman("secret", "create", *driver, f"{name}-{variable}", "-", given=".")
        if status:
            raise Failure(f"podman does not take a secret: {said}")


def _network(like: Sequence[str], dns: str) -> list[str]:
    """The flat network and its names, unless the unit's containers have another, or there is none."""
    if any(word.partition("=")[0] in ("--network", "--net", "--pod") for word in like):
        return []
    there = subprocess.run(["podman", "network", "exists", NETWORK], check=False).returncode == 0
    if not there:
        return []
    return [f"--network={NETWORK}", *([f"--dns={dns}"] if dns and not like else [])]


def handed_on(variables: Mapping[str, str]) -> list[str]:
    """podman's flags, by names alone: no value is in a command line, but of those that are podman's too."""
    return [f"--env={name}={value}" if name in OWN else f"--env={name}" for name, value in variables.items()]


def with_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """podman's environment, from which it hands variables on."""
    return {**os.environ, **{name: value for name, value in variables.items() if name not in OWN}}


def _image(word: str) -> str:
    """An image that is here, or comes from where it lies: the cluster's registry is one such place."""
    try:
        reference = Reference.parse(word)
    except ImageError as error:
        raise Failure(f"{word} is neither a unit nor an image: {error}") from None
    if _podman("image", "exists", word)[0] == 0:
        return word
    names = [word]
    if reference.local and REGISTRIES.is_dir():
        names = [str(reference.at(folder.name)) for folder in sorted(REGISTRIES.iterdir())] or names
    print(f"kirsch: fetches {word}", file=sys.stderr)
    said = ""
    for name in names:
        status, said = _podman("pull", "--quiet", name)
        if status == 0:
            return name
    raise Failure(f"{word} is neither a unit nor an image that this machine has or can fetch: {said}")


def _podman(*arguments: str, given: str = "") -> tuple[int, str]:
    """A call's exit status, and the last line that it complains with."""
    done = subprocess.run(["podman", *arguments], input=given, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return done.returncode, lines[-1].removeprefix("Error: ") if lines else ""


def _attached(argv: Sequence[str], environment: Mapping[str, str], name: str) -> int:
    """Until it ends; or until we are told to, or nobody reads what it prints any more: then it has to end."""
    process = subprocess.Popen(argv, env=dict(environment), preexec_fn=lambda: tie(signal.SIGTERM))
    wake, woken = os.pipe()

    def end(*_: object) -> None:
        os.write(woken, b".")

    signal.signal(signal.SIGINT, lambda *_: None)  # the terminal has sent it to podman too
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, end)
    poll = select.poll()
    ended = os.pidfd_open(process.pid)
    poll.register(ended, select.POLLIN)
    poll.register(wake, select.POLLIN)
    poll.register(1, 0)  # that its reader has gone is told unasked
    while True:
        told = dict(poll.poll())
        if ended in told:
            status = process.wait()
            return 128 - status if status < 0 else status
        for descriptor in told:
            poll.unregister(descriptor)
        if told.get(1) != select.POLLNVAL:
            process.terminate()  # it may be yet to begin
            subprocess.Popen(
                ["podman", "stop", f"--time={GRACE}", name],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
