"""A cluster's ingress: HAProxy in a container of its own, through which ports of this computer lead to
whichever machines answer. It lives with the machines, and knows all of them.

It passes bytes on (mode tcp), whatever they are. A machine is out as soon as one connection to it fails, and
in again once a check reaches it; who was about to be connected to it is connected to another.
See HAProxy's configuration manual, "observe", "on-error", "option redispatch", "tcp-ut".
"""

import time

from kirsch.cluster.balancer.haproxy import HAProxyError, State, admin_state, parse_states, socket_address
from kirsch.cluster.provision.archive import File, archive
from kirsch.cluster.provision.command import Command, CommandError, Runner
from kirsch.cluster.provision.podman import LABEL, Limits, copy_in, execute, object_name, podman, ulimits
from kirsch.cluster.provision.record import ClusterRecord, ProvisionError
from kirsch.cluster.provision.specification import Publication

NAME = "ingress"
# What tells it from machines, which bear the cluster's label too.
INGRESS = "io.kirsch.ingress"
CONFIGURATION = "/etc/kirsch/ingress.cfg"
SOCKET = "/run/haproxy.sock"
# Inside the container: one for each published port, in their order.
FIRST_PORT = 20000
# Its host number in the cluster's /24: machines begin at 11.
HOST = 250
# Seconds until HAProxy listens, or has its new configuration.
READY = 15.0

BASE = f"""\
# Made by kirsch for cluster {{name}}.
global
    user haproxy
    group haproxy
    maxconn 8000
    stats socket {SOCKET} mode 600 level admin expose-fd listeners

defaults
    mode tcp
    balance leastconn
    timeout connect 500ms
    timeout check 1s
    # What is idle for longer is cut.
    timeout client 1h
    timeout server 1h
    timeout client-fin 10s
    retries 5
    option redispatch 1
    default-server check inter 500ms fastinter 100ms downinter 300ms fall 2 rise 1
    # Not on-marked-down shutdown-sessions: it also ends who would be connected to another (HAProxy 3.0 leaves
    # them hanging). Who is connected to a machine that is gone finds out by TCP, after three seconds.
    default-server observe layer4 error-limit 1 on-error mark-down tcp-ut 3s
    option srvtcpka
    srvtcpka-idle 1s
    srvtcpka-intvl 1s
    srvtcpka-cnt 2
"""
# Every machine has Python; nothing else there speaks to a Unix socket.
ASK = (
    "import socket, sys\n"
    "s = socket.socket(socket.AF_UNIX)\n"
    "s.settimeout(5)\n"
    f"s.connect({SOCKET!r})\n"
    "s.sendall(b'show servers state\\n')\n"
    "sys.stdout.write(s.makefile().read())\n"
)


def publications(record: ClusterRecord) -> list[Publication]:
    """The ports that are published, as the record has them."""
    found = []
    for text in record.published:
        address, host, machine = text.rsplit(":", 2)
        found.append(Publication(int(host), int(machine), address))
    return found


def configuration(record: ClusterRecord) -> str:
    """Compose HAProxy's configuration for the machines that a cluster has now. Pure."""
    parts = [BASE.format(name=record.name)]
    for number, port in enumerate(publications(record)):
        lines = [f"listen {backend(port)}", f"    bind :{FIRST_PORT + number}"]
        lines += [
            f"    server {machine.name} {socket_address(machine.address, port.machine)}"
            for machine in record.machines
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def backend(port: Publication) -> str:
    """Return HAProxy's name for a published port."""
    return f"{port.address}_{port.host}".translate(str.maketrans("[]", "__"))


def container(cluster: str) -> str:
    """Return the name of the ingress's container."""
    return object_name(cluster, NAME)


def create_container(record: ClusterRecord, image: str, limits: Limits) -> Command:
    """Return podman's command that creates the container without starting it. Pure."""
    ports = [
        f"{port.address}:{port.host}:{FIRST_PORT + number}"
        for number, port in enumerate(publications(record))
    ]
    network = record.machines[0].address.rpartition(".")[0]
    return podman(
        "create", "--name", container(record.name), "--hostname", NAME,
        "--label", f"{LABEL}={record.name}", "--label", f"io.kirsch.id={record.id}",
        "--label", f"{INGRESS}={record.name}",
        "--network", object_name(record.name), "--ip", f"{network}.{HOST}",
        *(word for port in ports for word in ("--publish", port)),
        *ulimits(limits), "--pids-limit=-1", "--systemd=false", "--restart", "always",
        "--stop-signal", "SIGTERM", "--stop-timeout", "5", "--log-driver", "k8s-file",
        "--log-opt", "max-size=1mb", "--entrypoint", "[]",
        # -W: a new configuration is read on SIGUSR2, and no connection is lost by it.
        image, "haproxy", "-W", "-db", "-f", CONFIGURATION,
    )  # fmt: skip


def make(record: ClusterRecord, image: str, bounds: Limits, runner: Runner) -> None:
    """Make and start the ingress; nothing is made where no port is published. Raises ProvisionError."""
    if not record.published:
        return
    runner.run(create_container(record, image, bounds))
    runner.run(copy_in(container(record.name), _files(record)))
    runner.run(podman("start", container(record.name)))
    _wait(record, runner)


def follow(record: ClusterRecord, runner: Runner) -> None:
    """Have the ingress lead to the machines that the record has. Raises ProvisionError."""
    if not record.published:
        return
    name = container(record.name)
    runner.run(copy_in(name, _files(record)))
    if not _running(record, runner):
        return  # it reads that once it is started
    runner.run(podman("kill", "--signal", "USR2", name))
    _wait(record, runner)


def states(record: ClusterRecord, runner: Runner) -> dict[str, dict[str, bool]]:
    """For each published port, as HAProxy calls it, its machines and whether they answer there. Raises
    ProvisionError where the ingress does not run."""
    found: dict[str, dict[str, bool]] = {backend(port): {} for port in publications(record)}
    try:
        rows = parse_states(runner.run(execute(container(record.name), "python3", "-c", ASK)))
        for row in rows:
            ready = admin_state(int(row["srv_admin_state"])) is State.READY
            # 2: it runs; 3: it is about to stop. 0: it is down, 1: it starts.
            up = ready and int(row["srv_op_state"]) >= 2
            found.setdefault(row["be_name"], {})[row["srv_name"]] = up
    except (HAProxyError, KeyError, ValueError) as error:
        raise ProvisionError(f"the ingress answers nonsense: {error}") from None
    return found


def _files(record: ClusterRecord) -> bytes:
    return archive([File(CONFIGURATION, configuration(record).encode())])


def _running(record: ClusterRecord, runner: Runner) -> bool:
    shown = runner.run(podman("ps", "--format", "{{.Names}}", "--filter", f"label={INGRESS}={record.name}"))
    return container(record.name) in shown.split()


def _wait(record: ClusterRecord, runner: Runner) -> None:
    """Wait until HAProxy has exactly the record's machines."""
    wanted = {machine.name for machine in record.machines}
    deadline = time.monotonic() + READY
    while True:
        try:
            if all(set(servers) == wanted for servers in states(record, runner).values()):
                return
            reason = "it has not taken its new configuration"
        except CommandError as error:
            reason = error.words
        runner.check()
        if time.monotonic() > deadline:
            raise ProvisionError(f"the ingress is not ready: {reason} (podman logs {container(record.name)})")
        time.sleep(0.05)
