"""The report page: a table of all agents, what each does not pass, and what is known of others."""

from collections import Counter
from collections.abc import Sequence

from tests.websocket.autobahn.record import Run

# What the suite has: a title, and how many cases.
GROUPS = {
    "1": ("Framing", 16),
    "2": ("Pings and pongs", 11),
    "3": ("Reserved bits", 7),
    "4": ("Opcodes", 10),
    "5": ("Fragmentation", 20),
    "6": ("UTF-8", 145),
    "7": ("Closing", 37),
    "9": ("Sizes and speed", 54),
    "10": ("Other", 1),
    "12": ("Compression, by sizes", 90),
    "13": ("Compression, by parameters", 126),
}
CASES = sum(count for _, count in GROUPS.values())

# What others' servers fail, measured once with this suite on the same machine, not by the runs on this page.
PEERS = (
    ("websockets 17.4", "7.1.5; 9.3.1–3 and 9.4.1–3 (4,096 fragments a message at most)"),
    ("picows 2.3.1, its picows.websockets", "eight cases"),
    ("aiohttp 3.14.5", "7.9.5"),
    ("tornado 6.6.1", "7.9.*"),
    ("ws4py 0.6.0", "eleven cases"),
)

INTRODUCTION = """\
# Conformance

Written by `python -m tests.websocket.autobahn --record` from what its runs have left in conformance.json:
autobahntestsuite 25.10.1, 517 cases. A case is passed when its behaviour is OK, NON-STRICT or INFORMATIONAL
and its close is OK or INFORMATIONAL; a case that was not reached is failed. `-pure` is the engine without
compiled modules. The tables say how many were passed: 126 if all were, 125 of 126 if one was not, 72 (of 126)
if all were that were run.

## Servers

`kirsch ws serve` on each provider.
"""
CLIENTS = """\
## Clients

An echo client on each provider's `connect`.
"""
OTHERS = """\
## Others

Cases of the same suite that other servers fail, from an earlier measurement, not these runs:

| server | fails |
| --- | --- |"""


def page(runs: Sequence[Run]) -> str:
    """The page, as Markdown."""
    return "\n".join(
        [
            INTRODUCTION,
            *_table([run for run in runs if run.kind == "server"]),
            "",
            CLIENTS,
            *_table([run for run in runs if run.kind == "client"]),
            "",
            "## When, and beside what",
            "",
            *_conditions(runs),
            "",
            "`make autobahn` runs everything; it takes two and a half hours on two idle cores, by estimate.",
            "",
            OTHERS,
            *(f"| {name} | {failed} |" for name, failed in PEERS),
            "",
        ]
    )


def _table(runs: list[Run]) -> list[str]:
    """Groups down, agents across; below it the failures and what is passed but not plainly OK."""
    if not runs:
        return ["None was run."]
    agents = {name: [run for run in runs if run.agent == name] for name in dict.fromkeys(_names(runs))}
    lines = [
        "| cases | " + " | ".join(agents) + " |",
        "| --- |" + " ---: |" * len(agents),
    ]
    for group, (title, count) in GROUPS.items():
        shares = [_share(*_passed(of_agent, group), count) for of_agent in agents.values()]
        lines.append(f"| {group}.* {title} | " + " | ".join(shares) + " |")
    totals = [f"**{_share(*_passed(of_agent), CASES)}**" for of_agent in agents.values()]
    lines.append("| **all** | " + " | ".join(totals) + " |")
    seconds = [f"{sum(run.seconds for run in of_agent):.0f}" for of_agent in agents.values()]
    lines.append("| seconds | " + " | ".join(seconds) + " |")
    lines.append("")
    lines += [_remarks(name, of_agent) for name, of_agent in agents.items()]
    return lines


def _names(runs: list[Run]) -> list[str]:
    """Those that are compiled first."""
    names = [run.agent for run in runs]
    return sorted(names, key=lambda name: name.endswith("-pure"))


def _remarks(name: str, runs: list[Run]) -> str:
    failures = {case: verdict for run in runs for case, verdict in run.failures.items()}
    failed = "; ".join(f"{case} {verdict}" for case, verdict in failures.items()) or "nothing"
    counted = sum((run.counted for run in runs), Counter[str]())
    others = "".join(f", {count} {kind}" for kind, count in sorted(counted.items()))
    parts = [f"; of {group}.* was run: {_run(runs, group)}" for group in GROUPS if _partly(runs, group)]
    return f"- {name}: fails {failed}{others}{''.join(parts)}"


def _run(runs: list[Run], group: str) -> str:
    """What was run of a group of which not all was."""
    sections = {
        section: count
        for run in runs
        for section, (_, count) in run.sections.items()
        if section.split(".")[0] == group
    }
    return (
        ", ".join(f"{section}.* ({count})" for section, count in sorted(sections.items(), key=_number))
        or "nothing"
    )


def _number(item: tuple[str, int]) -> list[int]:
    return [int(part) for part in item[0].split(".")]


def _partly(runs: list[Run], group: str) -> bool:
    return _passed(runs, group)[1] < GROUPS[group][1]


def _conditions(runs: Sequence[Run]) -> list[str]:
    """When which runs were, on what, and beside how much other work."""
    found: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        found.setdefault((run.date, run.where, run.beside), []).append(run)
    lines = []
    for (date, where, beside), together in sorted(found.items()):
        loads = [average for run in together for average in run.load]
        load = f", load {min(loads):.0f} to {max(loads):.0f}" if loads else ""
        kinds = [
            f"{kind}s {', '.join(dict.fromkeys(run.agent for run in together if run.kind == kind))}"
            for kind in dict.fromkeys(run.kind for run in together)
        ]
        lines.append(f"- {date}, {where}; {beside}{load}: {'; '.join(kinds)}")
    return lines


def _passed(runs: list[Run], group: str | None = None) -> tuple[int, int]:
    """How many cases passed, and how many were run."""
    counts = [
        count
        for run in runs
        for section, count in run.sections.items()
        if group is None or section.split(".")[0] == group
    ]
    return sum(passed for passed, _ in counts), sum(run for _, run in counts)


def _share(passed: int, run: int, all_of_them: int) -> str:
    if not run:
        return "–"
    share = str(run) if passed == run else f"{passed} of {run}"
    return share if run >= all_of_them else f"{share} (of {all_of_them})"
