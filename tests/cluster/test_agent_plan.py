"""What an agent does next."""

from dataclasses import replace

from kirsch.cluster.agent.plan import (
    Assigned,
    Hold,
    Kill,
    Load,
    Start,
    Stop,
    Unload,
    View,
    plan,
)
from kirsch.cluster.model import Assignment, Endpoint
from kirsch.cluster.runtime.base import RuntimeState
from kirsch.unit import Options, UnitFile, UnitName

DB, WEB = UnitName.parse("db.service"), UnitName.parse("web.service")
RUNS, DOWN, FAILED = RuntimeState(active="active"), RuntimeState(), RuntimeState(active="failed")


def assigned(name: UnitName, *options: str, desired: str = "launched", order: int = 1) -> Assigned:
    file = UnitFile.parse("[Service]\nExecStart=/bin/x\n[X-Kirsch]\n" + "\n".join(options), name.text)
    return Assigned(file, Options.parse(file, name), Assignment(file.hash, desired, order))


def state(unit: Assigned, base: RuntimeState = RUNS) -> RuntimeState:
    return replace(base, hash=unit.assignment.hash)


def endpoint(name: UnitName, ready: bool = True) -> Endpoint:
    return Endpoint(name.service, name.text, "-", "m", "127.9.9.9", (), ready)


db, web = assigned(DB), assigned(WEB, "Link=db")
BOTH_RUN = View(
    assigned={DB: db, WEB: web},
    running={DB: state(db), WEB: state(web)},
    loaded={DB: db.options, WEB: web.options},
    started={DB: db.assignment, WEB: web.assignment},
    endpoints=(endpoint(DB), endpoint(WEB)),
)


def test_nothing_is_done_when_all_is_as_it_should_be():
    assert plan(BOTH_RUN) == []


def test_a_new_unit_is_started_and_one_only_loaded_is_not():
    loaded = assigned(WEB, desired="loaded")
    assert plan(View(assigned={DB: db, WEB: loaded})) == [Start(DB), Load(WEB)]


def test_a_linked_unit_waits_until_its_target_is_ready():
    fresh = View(assigned={WEB: web})
    assert plan(fresh) == [Hold(WEB, "waits for db to be ready"), Load(WEB)]
    waiting = replace(fresh, running={WEB: state(web, DOWN)}, endpoints=(endpoint(DB, ready=False),))
    assert plan(waiting) == [Hold(WEB, "waits for db to be ready")]
    assert plan(replace(waiting, endpoints=(endpoint(DB),))) == [Start(WEB)]


def test_a_unit_that_another_machine_still_has_is_not_started():
    view = View(assigned={DB: db}, running={DB: state(db, DOWN)}, elsewhere={DB: "m2"})
    assert plan(view) == [Hold(DB, "waits until machine m2 has stopped it")]


def test_a_failed_unit_is_left_until_somebody_orders_it_again():
    view = View(assigned={DB: db}, running={DB: state(db, FAILED)}, started={DB: db.assignment})
    assert plan(view) == []
    again = assigned(DB, order=2)
    assert plan(replace(view, assigned={DB: again})) == [Start(DB)]


def test_another_text_or_order_stops_first():
    other = assigned(DB, "CPU=1")
    view = View(assigned={DB: other}, running={DB: state(db)}, started={DB: db.assignment})
    assert plan(view) == [Stop(DB)]
    assert plan(replace(view, running={DB: state(db, DOWN)}, started={})) == [Start(DB)]
    assert plan(replace(view, assigned={DB: assigned(DB, order=2)})) == [Stop(DB)]


def test_instances_of_a_service_are_independent_for_an_agent():
    one, two = UnitName.parse("w@1.service"), UnitName.parse("w@2.service")
    old, new = assigned(one), assigned(one, "CPU=1")
    view = View(
        assigned={one: new, two: old},
        running={one: state(old), two: state(old)},
        started={one: old.assignment, two: old.assignment},
        endpoints=(endpoint(one), endpoint(two)),
    )
    # Which text each is to run, and when, is the engine's to say.
    assert plan(view) == [Stop(one)]
    assert plan(replace(view, assigned={one: new, two: new})) == [Stop(one), Stop(two)]


def test_users_stop_before_what_they_use():
    gone = replace(BOTH_RUN, assigned={})
    assert plan(gone) == [Hold(DB, "stops after web.service"), Stop(WEB)]
    stopping = replace(gone, busy=frozenset({WEB}))
    assert plan(stopping) == [Hold(DB, "stops after web.service")]
    assert plan(replace(gone, running={DB: state(db), WEB: state(web, DOWN)})) == [Stop(DB), Unload(WEB)]


def test_a_unit_alone_stops_though_others_use_it():
    view = replace(BOTH_RUN, assigned={DB: assigned(DB, desired="loaded"), WEB: web})
    assert plan(view) == [Stop(DB)]


def test_what_left_the_schedule_is_forgotten_once_it_is_down():
    assert plan(View(running={DB: DOWN})) == [Unload(DB)]


def test_a_busy_unit_is_let_be():
    assert plan(View(assigned={DB: db}, busy=frozenset({DB}))) == []


def test_a_start_under_way_is_given_up_for_a_stop():
    starts = replace(
        BOTH_RUN,
        assigned={},
        running={DB: state(db, RuntimeState(active="activating"))},
        busy=frozenset({DB}),
        starting=frozenset({DB}),
    )
    assert plan(starts) == [Stop(DB)]
    assert plan(replace(starts, starting=frozenset())) == []


def test_a_global_unit_does_not_wait_for_other_machines():
    everywhere = assigned(DB, "Global=true")
    view = View(assigned={DB: everywhere}, running={DB: state(everywhere, DOWN)}, elsewhere={DB: "m2"})
    assert plan(view) == [Start(DB)]


def test_a_unit_whose_text_the_store_has_no_more_is_let_be():
    view = replace(BOTH_RUN, assigned={WEB: web}, unread=frozenset({DB}))
    assert plan(view) == []
    assert plan(replace(view, running={DB: state(db, DOWN), WEB: state(web)})) == []
    assert plan(replace(view, unread=frozenset())) == [Stop(DB)]


def test_a_machine_that_is_not_in_the_store_starts_nothing_and_stops_what_it_knows_is_not_wanted():
    away = View(assigned={DB: db}, connected=False, joining=True)
    assert plan(away) == [Hold(DB, "waits until its machine has reached the store"), Load(DB)]
    # That a unit is to run anew is not acted upon: it could not be started again.
    again = assigned(DB, order=2)
    running = replace(BOTH_RUN, assigned={DB: again, WEB: web}, connected=False, joining=True)
    assert plan(running) == [Hold(DB, "waits until its machine has reached the store")]
    assert plan(replace(BOTH_RUN, assigned={WEB: web}, connected=False)) == [Stop(DB)]


def test_a_machine_that_comes_back_first_stops_what_is_no_longer_its_own():
    view = View(
        assigned={WEB: assigned(WEB)},
        running={DB: state(db)},
        loaded={DB: db.options},
        started={DB: db.assignment},
        joining=True,
    )
    assert plan(view) == [
        Stop(DB),
        Hold(WEB, "waits until its machine has stopped what is no longer its own"),
        Load(WEB),
    ]


stops = assigned(DB, "OnPartition=stop")
CUT_OFF = View(
    assigned={DB: stops, WEB: web},
    running={DB: state(stops), WEB: state(web)},
    loaded={DB: stops.options, WEB: web.options},
    started={DB: stops.assignment, WEB: web.assignment},
    endpoints=(endpoint(DB), endpoint(WEB)),
    connected=True,
)


def test_what_stops_when_cut_off_is_asked_at_half_the_lease_and_killed_at_its_end():
    assert plan(replace(CUT_OFF, silence=0.49)) == []
    assert plan(replace(CUT_OFF, silence=0.5)) == [Stop(DB)]
    stopping = replace(CUT_OFF, busy=frozenset({DB}))
    assert plan(replace(stopping, silence=0.9)) == []
    assert plan(replace(stopping, silence=1.0)) == [Kill(DB)]


def test_what_stops_when_cut_off_does_so_under_a_kirschd_that_never_saw_the_store():
    unknown = View(
        running=CUT_OFF.running, loaded=CUT_OFF.loaded, started=CUT_OFF.started, known=False, connected=False
    )
    assert plan(replace(unknown, silence=0.2)) == []
    assert plan(replace(unknown, silence=0.6)) == [Stop(DB)]
    assert plan(replace(unknown, silence=float("inf"))) == [Kill(DB)]


def test_what_stopped_when_cut_off_is_not_started_before_the_store_is_heard():
    view = replace(CUT_OFF, running={DB: state(stops, DOWN), WEB: state(web)}, started={WEB: web.assignment})
    assert plan(replace(view, silence=0.6)) == [Hold(DB, "waits until its machine has reached the store")]
    assert plan(replace(view, silence=0.1)) == [Start(DB)]


def test_what_stops_when_cut_off_waits_for_a_machine_that_was_lost_just_now():
    view = View(assigned={DB: stops, WEB: assigned(WEB)}, running={DB: state(stops, DOWN)}, lapsed="m2")
    reason = "waits until machine m2, which was just lost, has stopped it for sure"
    assert plan(view) == [Hold(DB, reason), Start(WEB)]
    assert plan(replace(view, lapsed="")) == [Start(DB), Start(WEB)]


def test_a_machine_that_boots_while_the_store_is_away_starts_what_is_cached_and_stops_nothing():
    view = View(
        cached={DB: db}, running={WEB: state(web)}, known=False, connected=False, silence=float("inf")
    )
    assert plan(view) == [Start(DB)]
    assert plan(replace(view, silence=0.0)) == []
    assert plan(replace(view, busy=frozenset({DB}))) == []
    assert plan(replace(view, started={DB: db.assignment})) == []
    assert plan(replace(view, running={DB: state(db)})) == []


def test_a_unit_starts_anew_when_what_it_uses_is_at_another_address():
    then = {"db.service/-": "10.0.0.1"}
    elsewhere = replace(endpoint(DB), address="10.0.0.2")
    view = replace(BOTH_RUN, linked={WEB: then}, endpoints=(elsewhere, endpoint(WEB)))
    assert plan(view) == [Stop(WEB)]
    # Not while nothing serves there, nor while nobody can say what is so, nor where it does not want to.
    assert plan(replace(view, endpoints=(replace(elsewhere, ready=False), endpoint(WEB)))) == []
    assert plan(replace(view, connected=False)) == []
    ignores = assigned(WEB, "Link=db", "LinkUpdate=ignore")
    deaf = replace(
        view,
        assigned={DB: db, WEB: ignores},
        running={DB: state(db), WEB: state(ignores)},
        started={DB: db.assignment, WEB: ignores.assignment},
    )
    assert plan(deaf) == []
    # What it uses moved, and its address with it.
    assert plan(replace(BOTH_RUN, linked={WEB: {"db.service/-": "127.9.9.9"}})) == []
