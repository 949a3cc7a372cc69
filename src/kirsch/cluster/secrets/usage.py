"""Which units use a secret. Pure."""

from kirsch.cluster.model import Cluster


def users(cluster: Cluster) -> dict[str, tuple[str, ...]]:
    """The names of the units that ask for each secret, sorted; templates are among them."""
    found: dict[str, set[str]] = {}
    for name, unit in cluster.units.items():
        for secret in unit.options.secrets:
            found.setdefault(secret.name, set()).add(name.text)
    return {secret: tuple(sorted(units)) for secret, units in sorted(found.items())}
