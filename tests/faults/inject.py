"""Faults, done to machines and undone. From outside: a machine that is broken cannot help."""

import subprocess

from tests.faults import clock
from tests.faults.plan import Fault, Kind
from tests.machines.trial import Trial, podman

from kirsch.cluster.provision.record import MachineRecord, etcd_url

KILL = "systemctl kill --kill-whom=main -s KILL"
# A narrow link, whose queue delays, where the kernel has no netem.
DELAY = (
    "tc qdisc add dev eth0 root netem delay 120ms 60ms 2>/dev/null || "
    "tc qdisc add dev eth0 root tbf rate 2mbit burst 32kbit latency 300ms"
)
LOSS = "-i eth0 -m statistic --mode random --probability 0.05 -j DROP"
# Fills /run to its last byte, and again when others give some back.
FILLS = "while [ -e /tmp/fills ]; do head -c 1M /dev/zero >> /run/full; sleep 0.02; done 2>/dev/null"
# Bytes in the middle of what the log of etcd's member has. Its file has zeros after its end.
DAMAGE = """
import glob, os
path = max(glob.glob("/var/lib/etcd/kirsch/member/wal/*.wal"))
with open(path, "r+b") as file:
    middle = len(file.read().rstrip(bytes(1))) // 2
    file.seek(middle)
    file.write(os.urandom(256))
"""
ETCDCTL = (
    "ETCDCTL_API=3 etcdctl --cacert=/etc/kirsch/tls/ca.crt --cert=/etc/kirsch/tls/machine.crt "
    "--key=/etc/kirsch/tls/machine.key --endpoints={url}"
)


class Faults:
    """What is broken by plan, and mended."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self._route: dict[str, str] = {}

    def begin(self, fault: Fault) -> None:
        machine = self.trial.machines[fault.machine]
        match fault.kind:
            case Kind.KILLED:
                self.trial.kill(machine)
            case Kind.PAUSED:
                podman("pause", machine.container)
            case Kind.CUT_OFF:
                self._route[machine.name] = self._net(machine, "ip route show default").strip()
                self._net(machine, "ip link set eth0 down")
            case Kind.DEAF:
                self._net(machine, "iptables -w -I INPUT -i eth0 -j DROP")
            case Kind.MUTE:
                self._net(machine, "iptables -w -I OUTPUT -o eth0 -j DROP")
            case Kind.SLOW:
                self._net(machine, f"{DELAY}; iptables -w -I INPUT {LOSS}")
            case Kind.CLOCK:
                clock.jump(self.trial, machine, clock.JUMP)
            case Kind.FULL:
                used = "$(df -k --output=used /run | tail -1)"
                self._sh(machine, f"mount -o remount,size=$(({used} + 64))k /run && touch /tmp/fills")
                podman("exec", "--detach", machine.container, "sh", "-c", FILLS)
            case Kind.ETCD:
                self._sh(machine, f"{KILL} etcd")
            case Kind.WAL:
                self._sh(machine, "systemctl stop etcd")
                self._sh(machine, f"/usr/bin/python3 -c '{DAMAGE}'; systemctl start --no-block etcd")
            case Kind.KIRSCHD:
                self._sh(machine, f"{KILL} kirschd")
            case Kind.HAPROXY:
                self._sh(machine, "kill -KILL $(pidof haproxy) || :")
            case Kind.CONTAINER:
                self._sh(
                    machine, "podman ps -q | head -n 1 | xargs -r podman kill --signal KILL >/dev/null || :"
                )

    def end(self, fault: Fault) -> None:
        machine = self.trial.machines[fault.machine]
        match fault.kind:
            case Kind.KILLED:
                self.trial.boot(machine)
            case Kind.PAUSED:
                podman("unpause", machine.container)
            case Kind.CUT_OFF:
                self._net(machine, f"ip link set eth0 up && ip route replace {self._route[machine.name]}")
            case Kind.DEAF:
                self._net(machine, "iptables -w -D INPUT -i eth0 -j DROP")
            case Kind.MUTE:
                self._net(machine, "iptables -w -D OUTPUT -o eth0 -j DROP")
            case Kind.SLOW:
                self._net(machine, f"tc qdisc del dev eth0 root; iptables -w -D INPUT {LOSS}")
            case Kind.CLOCK:
                clock.jump(self.trial, machine, 0)
            case Kind.FULL:
                self._sh(
                    machine, "rm -f /tmp/fills; mount -o remount,size=50% /run; sleep 0.1; rm -f /run/full"
                )
            case Kind.WAL:
                self._replace_member(machine)

    def _replace_member(self, machine: MachineRecord) -> None:
        """Have etcd's member begin anew, with what the others have."""
        other = next(each for each in self.trial.record.members if each is not machine)
        etcdctl = ETCDCTL.format(url=etcd_url(other))
        peer = etcd_url(machine).replace(":2379", ":2380")
        self._sh(machine, "systemctl stop etcd")
        self._sh(
            other,
            f"set -e; id=$({etcdctl} member list | grep ' {machine.name},' | cut -d, -f1); "
            f'[ -z "$id" ] || {etcdctl} member remove $id; '
            f"{etcdctl} member add {machine.name} --peer-urls={peer}",
        )
        self._sh(
            machine,
            "rm -rf /var/lib/etcd/kirsch && "
            "sed -i '/INITIAL_CLUSTER_STATE=/s/new/existing/' /etc/default/etcd && systemctl start etcd",
        )

    def _sh(self, machine: MachineRecord, script: str) -> str:
        return self.trial.shell(machine, script)

    def _net(self, machine: MachineRecord, script: str) -> str:
        """A script in the machine's network namespace, run by this computer."""
        pid = podman("inspect", "--format", "{{.State.Pid}}", machine.container).stdout.strip()
        done = subprocess.run(
            ["nsenter", "--net", "--target", pid, "sh", "-c", script],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, f"{script}: {done.stderr}"
        return done.stdout
