"""Commands of the group `tools` for the balancer and the normalizer."""

from collections.abc import Callable
from typing import Any

from kirsch.hbase.shell.answers import Facts, Grid
from kirsch.hbase.shell.command import CommandError, command
from kirsch.hbase.shell.commands.rows import rows
from kirsch.hbase.shell.session import Session, many, text

GROUP = "tools"


def _side(kind: Any, cluster: Any) -> Callable[..., bool]:
    """Return the switch of splits or of merges."""
    try:
        return {"SPLIT": cluster.splitting, "MERGE": cluster.merging}[str(kind).upper()]  # type: ignore[no-any-return]
    except KeyError:
        raise CommandError(f"{kind} is neither SPLIT nor MERGE") from None


rows(
    GROUP,
    {
        "balance_switch": (
            lambda admin, enabled: admin.cluster.balancer(enabled),
            "Turn the balancer on or off. Returns its previous state.\n\n"
            "balance_switch true\nbalance_switch false",
        ),
        "balancer_enabled": (
            lambda admin: admin.cluster.balancer(),
            "Return whether the balancer is on.\n\nbalancer_enabled",
        ),
        "normalizer_switch": (
            lambda admin, enabled: admin.cluster.normalizer(enabled),
            "Turn the normalizer on or off. Returns its previous state.\n\nnormalizer_switch true",
        ),
        "normalizer_enabled": (
            lambda admin: admin.cluster.normalizer(),
            "Return whether the normalizer is on.\n\nnormalizer_enabled",
        ),
        "splitormerge_switch": (
            lambda admin, kind, enabled: _side(kind, admin.cluster)(enabled),
            "Turn region splits or merges on or off. Returns the previous state.\n\n"
            "splitormerge_switch 'SPLIT', true\nsplitormerge_switch 'MERGE', false",
        ),
        "splitormerge_enabled": (
            lambda admin, kind: _side(kind, admin.cluster)(),
            "Return whether region splits or merges are on.\n\n"
            "splitormerge_enabled 'SPLIT'\nsplitormerge_enabled 'MERGE'",
        ),
    },
)


@command(GROUP)
def balancer(session: Session, *how: str) -> Facts:
    """Distribute regions evenly over the servers now.

        balancer
        balancer 'ignore_rit'
        balancer 'dry_run'

    'ignore_rit' (or 'force') does it while regions are in transition, 'dry_run' only counts the moves.
    """
    given = {text(word).lower() for word in how}
    if unknown := given - {"force", "ignore_rit", "dry_run"}:
        raise CommandError(
            f"balancer does not know {', '.join(sorted(unknown))}: there are ignore_rit and dry_run"
        )
    done = session.admin.cluster.balance(bool(given & {"force", "ignore_rit"}), "dry_run" in given)
    return Facts(
        {"RAN": done.ran, "MOVES_CALCULATED": done.planned, "MOVES_EXECUTED": done.made},
        f"The balancer {'ran' if done.ran else 'did not run'}: {done.planned} moves calculated, "
        f"{done.made} executed",
    )


@command(GROUP)
def normalize(
    session: Session,
    *,
    table_name: Any = None,
    table_names: Any = None,
    regex: str | None = None,
    namespace: str | None = None,
) -> bool:
    """Split and merge regions to similar sizes. Returns whether the normalizer will run.

    normalize
    normalize TABLE_NAME => 't1'
    normalize TABLE_NAMES => ['t1', 't2'], NAMESPACE => 'ns1'
    normalize REGEX => 't.*'
    """
    return bool(
        session.admin.cluster.normalize(
            [text(name, "a table's name") for name in (*many(table_name), *many(table_names))],
            None if regex is None else text(regex, "a pattern"),
            None if namespace is None else text(namespace, "a namespace's name"),
        )
    )


@command(GROUP)
def get_balancer_decisions(session: Session, *, limit: int = 250) -> Grid:
    """List decisions of the balancer.

        get_balancer_decisions
        get_balancer_decisions LIMIT => 5

    The master keeps it where hbase.master.balancer.decision.buffer.enabled is true.
    """
    return _entries(session.admin.cluster.balancer_log(limit=limit))


@command(GROUP)
def get_balancer_rejections(session: Session, *, limit: int = 250) -> Grid:
    """List the reasons for which the balancer did nothing.

        get_balancer_rejections
        get_balancer_rejections LIMIT => 5

    The master keeps it where hbase.master.balancer.rejection.buffer.enabled is true.
    """
    return _entries(session.admin.cluster.balancer_log(True, limit))


def _entries(entries: list[dict[str, Any]]) -> Grid:
    columns = tuple(dict.fromkeys(key for entry in entries for key in entry))
    rows = [[entry.get(column) for column in columns] for entry in entries]
    return Grid([column.upper() for column in columns], rows, "entry")
