"""What is told of Autobahn's cases: it is what the runs came to, also where an agent's were run in parts."""

from pathlib import Path

from tests.websocket.autobahn import record, report
from tests.websocket.autobahn.record import Run
from tests.websocket.autobahn.suite import Outcome, Verdict
from tests.websocket.programs import ROOT, Program

PAGE = ROOT / "packages/kirsch-websocket/docs/conformance.md"


def ran(*sections, agent="pure", kind="server", **more):
    """A run in which all passed: sections with how many cases each has."""
    passed = {name: (count, count) for name, count in sections}
    return Run(kind, agent, "2026-11-27", "CPython 3.11.7", "nothing", 10, passed, **more)


def rows(runs):
    """The page's lines that tell of an agent."""
    return [
        line for line in report.page(runs).splitlines() if line.startswith(("| 12.*", "| 13.*", "- pure"))
    ]


def test_the_page_is_what_the_records_make():
    runs = record.load(PAGE.with_suffix(".json"))
    assert {run.agent for run in runs} >= {"asyncio", "threaded", "tornado", "gevent", "cherrypy"}
    assert PAGE.read_text() == report.page(runs)


def test_a_run_is_counted_by_sections():
    ok, close = Verdict("OK", "OK"), Verdict("NON-STRICT", "OK")
    verdicts = {"1.1.1": ok, "1.1.2": Verdict("FAILED", "OK"), "3.2": close, "12.1.1": ok, "12.1.2": ok}
    outcome = Outcome(Program("pure", ()), verdicts, [], "", 12.4)
    run = record.of("server", outcome, "2026-11-27", "CPython 3.11.7", "nothing", [0.52, 1.77])
    assert run.sections == {"1.1": (1, 2), "3.2": (1, 1), "12.1": (2, 2)}
    assert run.failures == {"1.1.2": "FAILED, close OK"}
    assert run.others == {"3.2": "NON-STRICT"}
    assert (run.seconds, run.load) == (12, [0.5, 1.8])


def test_what_is_saved_is_loaded(tmp_path: Path):
    runs = [ran(("12.1", 18), others={"12.1.3": "NON-STRICT"}), ran(("12", 90), kinds={"NON-STRICT": 7})]
    record.save(tmp_path / "runs.json", runs)
    assert record.load(tmp_path / "runs.json") == runs
    assert record.load(tmp_path / "none.json") == []


def test_parts_come_together():
    runs = []
    for section in ("12.1", "12.2", "13.1"):
        runs = record.merged(runs, ran((section, 18)))
    assert rows(runs)[:2] == [
        "| 12.* Compression, by sizes | 36 (of 90) |",
        "| 13.* Compression, by parameters | 18 (of 126) |",
    ]
    assert "of 12.* was run: 12.1.* (18), 12.2.* (18); of 13.* was run: 13.1.* (18)" in rows(runs)[2]
    for section in ("12.3", "12.4", "12.5"):
        runs = record.merged(runs, ran((section, 18)))
    assert rows(runs)[0] == "| 12.* Compression, by sizes | 90 |"
    assert "of 12.*" not in rows(runs)[2]


def test_a_new_run_replaces_what_was_known_of_its_cases():
    whole = ran(("12", 90), ("13", 126), kinds={"NON-STRICT": 7})
    sample = ran(("12.1", 4), ("13.1", 1), others={"12.1.3": "NON-STRICT"})
    # Of fewer cases nothing new is known.
    assert record.merged([whole], sample) == [whole]
    # Another agent is another matter.
    other = ran(("12.1", 18), agent="other")
    assert record.merged([other, sample], whole) == [other, whole]
    again = ran(("12.1", 18), failures={"12.1.5": "FAILED"})
    first, last = record.merged([sample], again)
    assert (first.sections, first.others) == ({"13.1": (1, 1)}, {})
    assert last == again
    every = ran(*((f"12.{number}", 18) for number in range(1, 6)))
    first, last = record.merged([whole], every)
    assert (first.sections, first.kinds, last) == ({"13": (126, 126)}, {}, every)


def test_what_was_run_beside_what():
    runs = [
        ran(("12.1", 18), load=[1.2, 3.6]),
        ran(("12.2", 18), load=[3.6, 2.0]),
        ran(("1", 16), kind="client"),
    ]
    assert "- 2026-11-27, CPython 3.11.7; nothing, load 1 to 4: servers pure; clients pure" in report.page(
        runs
    )


def test_a_failure_is_told():
    failed = Run(
        *("server", "pure", "2026-11-27", "CPython 3.11.7", "nothing", 10),
        {"12": (89, 90), "13": (3, 4)},
        {"12.1.5": "FAILED"},
    )
    lines = rows([failed])
    assert lines[0].endswith("| 89 of 90 |")
    assert lines[1].endswith("| 3 of 4 (of 126) |")
    assert "- pure: fails 12.1.5 FAILED" in lines[2]
