from __future__ import annotations

from tests.gateway.fakes import Setup, config
from trunkline.core.errors import InvalidRequest, UpstreamFailed
from trunkline.gateway.config import Hedge, Target

TARGETS = (
    Target(backend="a", model="m"),
    Target(backend="b", model="m", order=1),
    Target(backend="c", model="m", order=2),
)
DOWN = UpstreamFailed("down")


def hedged(most: int = 1) -> Setup:
    return Setup(config(*TARGETS, hedge=Hedge(after=2.0, most=most), continue_streams=False))


def test_a_fast_answer_needs_no_second() -> None:
    setup = hedged()
    setup.submit()
    setup.clock.advance(1.9)
    setup["a"].last.text("hi")
    setup.clock.advance(10)
    assert setup["b"].calls == []
    assert setup.clock.pending() == 0


def test_whoever_is_first_wins_and_the_other_is_cancelled() -> None:
    setup = hedged()
    sink, _ = setup.submit()
    setup.clock.advance(2.1)
    setup["b"].last.text("quick")
    assert setup["a"].last.cancelled
    setup["b"].last.finish()
    assert sink.text == "quick"
    assert (sink.routed.backend, sink.routed.fallbacks) == ("b", 1)
    counters = setup.route.state.counters
    assert (counters.hedges, counters.hedges_won, counters.retries) == (1, 1, 0)
    assert setup.in_flight() == 0


def test_the_first_may_still_win() -> None:
    setup = hedged(most=2)
    sink, _ = setup.submit()
    setup.clock.advance(4.1)
    assert len(setup.open_calls()) == 3
    setup["a"].last.text("late")
    assert [call.backend.name for call in setup.open_calls()] == ["a"]
    assert (sink.routed.backend, sink.routed.fallbacks) == ("a", 0)
    assert setup.route.state.counters.hedges_won == 0


def test_no_more_than_allowed() -> None:
    setup = hedged(most=1)
    setup.submit()
    setup.clock.advance(50)
    assert len(setup.open_calls()) == 2


def test_a_failure_leaves_the_other_running() -> None:
    setup = hedged()
    sink, _ = setup.submit()
    setup.clock.advance(2.1)
    setup["a"].last.fail(DOWN)
    assert not sink.events
    setup["b"].last.fail(DOWN)
    setup["c"].last.text("third")
    assert sink.routed.backend == "c"


def test_the_clients_own_error_leaves_the_other_to_answer() -> None:
    setup = hedged()
    sink, _ = setup.submit()
    setup.clock.advance(2.1)
    setup["b"].last.fail(InvalidRequest("bad"))
    assert not sink.events
    setup["a"].last.fail(InvalidRequest("bad"))
    assert sink.error == "invalid_request"
    assert setup.open_calls() == []
    assert setup.in_flight() == 0


def test_cancel_stops_all() -> None:
    setup = hedged(most=2)
    sink, cancel = setup.submit()
    setup.clock.advance(4.1)
    cancel()
    assert setup.open_calls() == []
    assert sink.events == []
    assert setup.clock.pending() == 0
