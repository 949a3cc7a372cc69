"""The key that a cluster's secrets are sealed with: made with the cluster, and only its machines have it."""

from kirsch.cluster.node.settings import SECRETS
from kirsch.cluster.provision.command import Runner
from kirsch.cluster.provision.record import ClusterRecord, ProvisionError
from kirsch.cluster.provision.shell import act, shell_of
from kirsch.cluster.provision.tree import File
from kirsch.cluster.secrets.seal import Key, Unsealable


def key_file(key: Key) -> File:
    """As a machine has it."""
    return File(str(SECRETS), key.text.encode(), 0o600)


def fetch(record: ClusterRecord, runner: Runner) -> Key:
    """The key, of any machine that is there, for one that joins. Raises ProvisionError."""
    reasons = []
    for machine in record.machines:
        try:
            return Key.parse(act(runner, shell_of(record, machine), machine.name, f"cat {SECRETS}"))
        except Unsealable as error:
            reasons.append(f"{machine.name}: {SECRETS}: {error}")
        except ProvisionError as error:
            runner.check()
            reasons.append(str(error))
    raise ProvisionError(f"no machine has the key of the cluster's secrets: {'; '.join(reasons)}")
