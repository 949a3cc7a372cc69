"""tools: what the master does by itself, and when."""

from typing import Any

from kirsch.hbase.shell.answer import Facts
from kirsch.hbase.shell.command import CommandError, UsageError, command
from kirsch.hbase.shell.session import Session, many, text

GROUP = "tools"


def _truth(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise UsageError(f"{name}: true or false is needed, not {value!r}")


@command(GROUP)
def balance_switch(session: Session, enabled: bool) -> bool:
    """Have the balancer run by itself, or not. Answers what was before.

    balance_switch true
    balance_switch false
    """
    return bool(session.admin("balancerSwitch", _truth(enabled, "balance_switch"), True))


@command(GROUP)
def balancer(session: Session, *how: str) -> Facts:
    """Spread regions evenly over the servers now.

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
    request = session.java("client.BalanceRequest").newBuilder()
    request.setIgnoreRegionsInTransition(bool(given & {"force", "ignore_rit"}))
    request.setDryRun("dry_run" in given)
    answer = session.admin("balance", request.build())
    ran = bool(answer.isBalancerRan())
    calculated, executed = int(answer.getMovesCalculated()), int(answer.getMovesExecuted())
    return Facts(
        {"RAN": ran, "MOVES_CALCULATED": calculated, "MOVES_EXECUTED": executed},
        f"The balancer {'ran' if ran else 'did not run'}: {calculated} moves calculated, {executed} executed",
    )


@command(GROUP)
def balancer_enabled(session: Session) -> bool:
    """Say whether the balancer runs by itself.

    balancer_enabled
    """
    return bool(session.admin("isBalancerEnabled"))


@command(GROUP)
def normalize(
    session: Session,
    *,
    table_name: Any = None,
    table_names: Any = None,
    regex: str | None = None,
    namespace: str | None = None,
) -> bool:
    """Split and merge regions so that they are of like sizes. Answers whether the normalizer will run.

    normalize
    normalize TABLE_NAME => 't1'
    normalize TABLE_NAMES => ['t1', 't2'], NAMESPACE => 'ns1'
    normalize REGEX => 't.*'
    """
    builder = session.java("client.NormalizeTableFilterParams$Builder")()
    if names := [*many(table_name), *many(table_names)]:
        tables = session.java("java.util.ArrayList")()
        for name in names:
            tables.add(session.table_name(name))
        builder.tableNames(tables)
    if regex is not None:
        builder.regex(text(regex, "a pattern"))
    if namespace is not None:
        builder.namespace(text(namespace, "a namespace's name"))
    return bool(session.admin("normalize", builder.build()))


@command(GROUP)
def normalizer_switch(session: Session, enabled: bool) -> bool:
    """Have the normalizer run by itself, or not. Answers what was before.

    normalizer_switch true
    """
    return bool(session.admin("normalizerSwitch", _truth(enabled, "normalizer_switch")))


@command(GROUP)
def normalizer_enabled(session: Session) -> bool:
    """Say whether the normalizer runs by itself.

    normalizer_enabled
    """
    return bool(session.admin("isNormalizerEnabled"))


@command(GROUP)
def catalogjanitor_run(session: Session) -> int:
    """Tidy hbase:meta now. Answers how many regions' traces were taken away.

    catalogjanitor_run
    """
    return int(session.admin("runCatalogJanitor"))


@command(GROUP)
def catalogjanitor_switch(session: Session, enabled: bool) -> bool:
    """Have hbase:meta tidied by itself, or not. Answers what was before.

    catalogjanitor_switch true
    """
    return bool(session.admin("catalogJanitorSwitch", _truth(enabled, "catalogjanitor_switch")))


@command(GROUP)
def catalogjanitor_enabled(session: Session) -> bool:
    """Say whether hbase:meta is tidied by itself.

    catalogjanitor_enabled
    """
    return bool(session.admin("isCatalogJanitorEnabled"))


@command(GROUP)
def cleaner_chore_run(session: Session) -> bool:
    """Delete files now that nobody needs. Answers whether it ran.

    cleaner_chore_run
    """
    return bool(session.admin("runCleanerChore"))


@command(GROUP)
def cleaner_chore_switch(session: Session, enabled: bool) -> bool:
    """Have files that nobody needs deleted by themselves, or not. Answers what was before.

    cleaner_chore_switch true
    """
    return bool(session.admin("cleanerChoreSwitch", _truth(enabled, "cleaner_chore_switch")))


@command(GROUP)
def cleaner_chore_enabled(session: Session) -> bool:
    """Say whether files that nobody needs are deleted by themselves.

    cleaner_chore_enabled
    """
    return bool(session.admin("isCleanerChoreEnabled"))


@command(GROUP)
def hbck_chore_run(session: Session) -> bool:
    """Look for what does not fit together in the cluster now. Answers whether it ran.

        hbck_chore_run

    What it found is on the master's page (HBCK Report).
    """
    hbck = session.call(session.connection.java.getHbck)
    try:
        return bool(session.call(hbck.runHbckChore))
    finally:
        hbck.close()


@command(GROUP)
def snapshot_cleanup_switch(session: Session, enabled: bool) -> bool:
    """Have snapshots deleted once their TTL is over, or not. Answers what was before.

    snapshot_cleanup_switch true
    """
    return bool(session.admin("snapshotCleanupSwitch", _truth(enabled, "snapshot_cleanup_switch"), True))


@command(GROUP)
def snapshot_cleanup_enabled(session: Session) -> bool:
    """Say whether snapshots are deleted once their TTL is over.

    snapshot_cleanup_enabled
    """
    return bool(session.admin("isSnapshotCleanupEnabled"))


@command(GROUP)
def splitormerge_switch(session: Session, kind: str, enabled: bool) -> bool:
    """Let regions be split (or merged), or not. Answers what was before.

    splitormerge_switch 'SPLIT', true
    splitormerge_switch 'MERGE', false
    """
    method = {"SPLIT": "splitSwitch", "MERGE": "mergeSwitch"}.get(str(kind).upper())
    if method is None:
        raise CommandError(f"{kind} is none of SPLIT, MERGE")
    return bool(session.admin(method, _truth(enabled, "splitormerge_switch"), True))


@command(GROUP)
def splitormerge_enabled(session: Session, kind: str) -> bool:
    """Say whether regions may be split (or merged).

    splitormerge_enabled 'SPLIT'
    splitormerge_enabled 'MERGE'
    """
    method = {"SPLIT": "isSplitEnabled", "MERGE": "isMergeEnabled"}.get(str(kind).upper())
    if method is None:
        raise CommandError(f"{kind} is none of SPLIT, MERGE")
    return bool(session.admin(method))


@command(GROUP)
def is_in_maintenance_mode(session: Session) -> bool:
    """Say whether the master is in maintenance mode.

    is_in_maintenance_mode
    """
    return bool(session.admin("isMasterInMaintenanceMode"))
