"""The report page: a table of all agents, what each does not pass, and what is known of others."""

import datetime
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Sequence

from tests.websocket.autobahn.suite import Outcome

GROUPS = {
    "1": "Framing",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8",
    "7": "Closing",
    "9": "Sizes and speed",
    "10": "Other",
    "12": "Compression, by sizes",
    "13": "Compression, by parameters",
}

# What others' servers fail, measured once with this suite on the same machine, not by the run on this page.
PEERS = (
    ("websockets 17.4", "7.1.5; 9.3.1–3 and 9.4.1–3 (4,096 fragments a message at most)"),
    ("picows 2.3.1, its picows.websockets", "eight cases"),
    ("aiohttp 3.14.5", "7.9.5"),
    ("tornado 6.6.1", "7.9.*"),
    ("ws4py 0.6.0", "eleven cases"),
)


def page(servers: Sequence[Outcome], clients: Sequence[Outcome], date: datetime.date) -> str:
    """The page, as Markdown."""
    return "\n".join(
        [
            "# Conformance",
            "",
            f"Written by `make autobahn` on {date.isoformat()}: autobahntestsuite 25.10.1, "
            f"{platform.python_implementation()} {platform.python_version()}{_versions()}. "
            "A case is passed when its behaviour is OK, NON-STRICT or INFORMATIONAL and its close is OK or "
            "INFORMATIONAL; a case that was not reached is failed. `-pure` is the engine without compiled "
            "modules.",
            "",
            "## Servers",
            "",
            "`kirsch ws serve` on each provider.",
            "",
            *_table(servers),
            "",
            "## Clients",
            "",
            "An echo client on each provider's `connect`.",
            "",
            *_table(clients),
            "",
            "## Others",
            "",
            "What other servers fail of the same suite, from an earlier measurement, not this run:",
            "",
            "| server | fails |",
            "| --- | --- |",
            *(f"| {name} | {failed} |" for name, failed in PEERS),
            "",
        ]
    )


def _versions() -> str:
    found = []
    for name in ("tornado", "gevent", "cherrypy"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return "".join(f", {name}" for name in found)


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    """Groups down, agents across; below it the failures and what is passed but not plainly OK."""
    if not outcomes:
        return ["None was run."]
    lines = [
        "| cases | " + " | ".join(outcome.agent.name for outcome in outcomes) + " |",
        "| --- |" + " ---: |" * len(outcomes),
    ]
    for group, title in GROUPS.items():
        counts = [_passed(outcome, group) for outcome in outcomes]
        if any(total for _, total in counts):
            lines.append(f"| {group}.* {title} | " + " | ".join(map(_share, counts)) + " |")
    totals = [_passed(outcome) for outcome in outcomes]
    lines.append("| **all** | " + " | ".join(f"**{_share(total)}**" for total in totals) + " |")
    lines.append("| seconds | " + " | ".join(f"{outcome.seconds:.0f}" for outcome in outcomes) + " |")
    lines.append("")
    for outcome in outcomes:
        failed = "; ".join(f"{case} {verdict}" for case, verdict in outcome.failures.items()) or "nothing"
        kinds = Counter(
            verdict.behavior
            for verdict in outcome.verdicts.values()
            if verdict.passed and verdict.behavior != "OK"
        )
        others = "".join(f", {count} {kind}" for kind, count in sorted(kinds.items()))
        lines.append(f"- {outcome.agent.name}: fails {failed}{others}")
    return lines


def _passed(outcome: Outcome, group: str | None = None) -> tuple[int, int]:
    verdicts = [
        verdict for case, verdict in outcome.verdicts.items() if group is None or case.split(".")[0] == group
    ]
    return sum(verdict.passed for verdict in verdicts), len(verdicts)


def _share(count: tuple[int, int]) -> str:
    passed, total = count
    return str(total) if passed == total else f"{passed} of {total}"
