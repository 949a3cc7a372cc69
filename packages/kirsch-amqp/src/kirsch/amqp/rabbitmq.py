"""A real RabbitMQ in the foreground, in a folder of its own: `python -m kirsch.amqp.rabbitmq`.

The server is Debian's (`apt-get install rabbitmq-server`); no service of the system is needed, nor started.
Its environment is that of docker's official image (https://hub.docker.com/_/rabbitmq):

    RABBITMQ_DEFAULT_USER   the first user (guest, who may come from this machine only)
    RABBITMQ_DEFAULT_PASS   its password; or RABBITMQ_DEFAULT_PASS_FILE, a file that holds it

and kirsch's own:

    RABBITMQ_DATA           where everything lies ($STATE_DIRECTORY/rabbitmq, or ./rabbitmq)
    RABBITMQ_PORT           the port (5672)
    RABBITMQ_PLUGINS        plugins to enable, between spaces (none)
    KIRSCH_ADDRESS          the address to listen on (127.0.0.1)

SIGTERM stops it in order. Erlang's port mapper, which would stay behind, has a port of its own and goes with
it.
"""

import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kirsch.bus.process.child import Child, ChildError, Command, Exit

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
# Variables that the server inherits; never the password.
KEPT = ("PATH", "TZ", "LANG")
# Schedulers do not spin while they wait: there may be few cores.
ERLANG = "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
# Setting of each listening plugin's address, and its port where the setting has one. Without the setting a
# plugin listens on all addresses.
LISTENERS = {
    "rabbitmq_management": ("management.tcp.ip", None),
    "rabbitmq_prometheus": ("prometheus.tcp.ip", None),
    "rabbitmq_stomp": ("stomp.listeners.tcp.1", 61613),
    "rabbitmq_mqtt": ("mqtt.listeners.tcp.1", 1883),
    "rabbitmq_stream": ("stream.listeners.tcp.1", 5552),
    "rabbitmq_web_stomp": ("web_stomp.tcp.ip", None),
    "rabbitmq_web_mqtt": ("web_mqtt.tcp.ip", None),
}
# Plugins that these bring, which listen.
BRINGS = {
    "rabbitmq_web_stomp": "rabbitmq_stomp",
    "rabbitmq_web_mqtt": "rabbitmq_mqtt",
    "rabbitmq_top": "rabbitmq_management",
    "rabbitmq_tracing": "rabbitmq_management",
    "rabbitmq_federation_management": "rabbitmq_management",
    "rabbitmq_shovel_management": "rabbitmq_management",
    "rabbitmq_stream_management": "rabbitmq_management rabbitmq_stream",
}
# Seconds for its queues to be closed.
GRACE = 20.0


class RabbitError(Exception):
    """The server cannot run: the reason, in one line."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one server. `lines` are further lines of its rabbitmq.conf."""

    data: Path
    address: str = "127.0.0.1"
    port: int = 5672
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    plugins: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the variables that the module documents. Raises RabbitError."""
        state = environment.get("STATE_DIRECTORY", ".")
        port = environment.get("RABBITMQ_PORT", "5672")
        if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise RabbitError(f"RABBITMQ_PORT={port[:20]!a} is no port")
        password = environment.get("RABBITMQ_DEFAULT_PASS", "guest")
        if path := environment.get("RABBITMQ_DEFAULT_PASS_FILE"):
            try:
                password = Path(path).read_text(encoding="utf-8").rstrip("\n")
            except OSError as error:
                raise RabbitError(f"RABBITMQ_DEFAULT_PASS_FILE={path}: {error.strerror}") from error
            except UnicodeDecodeError:
                raise RabbitError(f"RABBITMQ_DEFAULT_PASS_FILE={path} is not UTF-8") from None
        return cls(
            Path(environment.get("RABBITMQ_DATA", Path(state, "rabbitmq"))).absolute(),
            environment.get("KIRSCH_ADDRESS", "127.0.0.1"),
            int(port),
            environment.get("RABBITMQ_DEFAULT_USER", "guest"),
            password,
            tuple(environment.get("RABBITMQ_PLUGINS", "").split()),
        )

    def configuration(self) -> str:
        """Return the text of rabbitmq.conf."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        own = (f"listeners.tcp.1 = {host}:{self.port}", "log.file = false", "log.console = true")
        listeners = self._plugin_listeners(host)
        return "\n".join((*own, "log.console.level = warning", *listeners, *self.lines, ""))

    def _plugin_listeners(self, host: str) -> list[str]:
        """Return settings that have plugins listen on the server's own address only."""
        brought = " ".join(BRINGS.get(plugin, "") for plugin in self.plugins).split()
        return [
            f"{setting} = {self.address if port is None else f'{host}:{port}'}"
            for plugin, (setting, port) in LISTENERS.items()
            if plugin in self.plugins or plugin in brought
        ]

    def terms(self) -> str:
        """Return the text of advanced.config: Erlang terms, in which any text can be written."""
        user, password = _binary(self.user), _binary(self.password)
        return f"[{{rabbit, [{{default_user, {user}}}, {{default_pass, {password}}}]}}].\n"

    def command(self, environment: Mapping[str, str] = os.environ) -> Command:
        """Write the server's folder and return the command that runs it. Raises RabbitError."""
        if not SERVER.exists():
            raise RabbitError("there is no RabbitMQ here: apt-get install rabbitmq-server")
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self.data / "rabbitmq.conf", self.configuration())
            _write(self.data / "advanced.config", self.terms())
            _write(self.data / "plugins", f"[{', '.join(self.plugins)}].\n")
        except OSError as error:
            raise RabbitError(f"{error.filename}: {error.strerror}") from error
        mapper, distribution = free_ports(2)
        own = {
            "HOME": str(self.data),
            "RABBITMQ_NODENAME": "kirsch@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.data / "db"),
            "RABBITMQ_LOG_BASE": str(self.data / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.data / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.data / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.data / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(distribution),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
            # The script becomes the server, and its SIGTERM is the server's.
            "RUNNING_UNDER_SYSTEMD": "1",
        }
        kept = {name: environment[name] for name in KEPT if name in environment}
        return Command((str(SERVER),), environment=kept | own, directory=str(self.data))


def _binary(text: str) -> str:
    """Return a text as an Erlang binary."""
    return f"<<{', '.join(map(str, text.encode()))}>>"


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main() -> int:
    """Run the server until SIGTERM or Ctrl-C; return 0 if it ended well, else 1."""
    ended: list[Exit] = []
    try:
        settings = Settings.from_environment(os.environ)
        child = Child(
            settings.command(), lambda _, line: print(line, file=sys.stderr), ended.append, grace=GRACE
        )
        child.start()
    except (RabbitError, ChildError) as error:
        print(f"kirsch.amqp.rabbitmq: {error}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: child.stop(signal.SIGTERM, GRACE))
    while child.running:
        # Not without an end: a signal that comes just before it would not wake it.
        child.wait(0.2)
    return 0 if ended and ended[0].ok else 1


if __name__ == "__main__":
    sys.exit(main())
