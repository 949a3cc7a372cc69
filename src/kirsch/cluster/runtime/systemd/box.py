"""A container like a unit's own, for a one-off command: from the command that Quadlet would run. Pure."""

from pathlib import Path

from kirsch.cluster.runtime.process.host import specifiers
from kirsch.unit import UnitError, UnitName, expand, split_words

# systemd.unit(5), "Specifiers": %t %S %C %L of the system's own.
FOLDERS = {
    "runtime": Path("/run"),
    "state": Path("/var/lib"),
    "cache": Path("/var/cache"),
    "logs": Path("/var/log"),
}
# What makes a container the unit's own: its name, that systemd follows it, its address, what it publishes.
_FLAGS = frozenset({"--replace", "--rm", "-d", "--detach"})
_VALUED = frozenset(
    (
        *("--name", "--cidfile", "--cgroups", "--sdnotify", "--restart", "--ip", "--ip6", "--mac-address"),
        *("--publish", "-p", "--network-alias", "--conmon-pidfile", "--systemd", "--log-driver", "--log-opt"),
    )
)
# A one-off command is not asked how it is.
_HEALTH = "--health-"
# Options of podman-run(1) that take no value, of those that Quadlet or PodmanArgs= may give.
_SINGLE = frozenset(
    (
        *(
            "--init",
            "--privileged",
            "--read-only",
            "--no-hosts",
            "--no-hostname",
            "--env-host",
            "--http-proxy",
        ),
        *("--oom-kill-disable", "--quiet", "--rmi", "--sig-proxy", "--tls-verify", "--read-only-tmpfs"),
        *("--interactive", "-i", "--tty", "-t", "--publish-all", "-P", "--no-healthcheck"),
    )
)


def box(command: str, name: UnitName) -> tuple[str, ...]:
    """podman's arguments for another container, the image last, of the command (ExecStart=) of a unit's.

    Raises UnitError for what is no `podman run`."""
    words = [_word(each, name) for each in split_words(command)]
    try:
        start = words.index("run") + 1
    except ValueError:
        raise UnitError(f"{name}: Quadlet does not run a container: {command[:80]}") from None
    kept: list[str] = []
    rest = iter(words[start:])
    for word in rest:
        if not word.startswith("-"):
            return (*kept, word)
        option, equals, _ = word.partition("=")
        value = [] if equals or option in _FLAGS | _SINGLE else [next(rest, "")]
        if option not in _FLAGS | _VALUED and not option.startswith(_HEALTH):
            kept += [word, *value]
    raise UnitError(f"{name}: Quadlet runs a container without an image: {command[:80]}")


def _word(text: str, name: UnitName) -> str:
    """As systemd would hand it on (systemd.service(5), "Command lines"), but for variables."""
    return expand(text.replace("$$", "$"), name, specifiers(FOLDERS))
