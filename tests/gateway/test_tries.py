from __future__ import annotations

import pytest

from tests.gateway.fakes import Setup, config
from trunkline.core.errors import (
    ContentRefused,
    ContextOverflow,
    EngineCrashed,
    InternalError,
    QueueFull,
    RateLimited,
    TrunklineError,
    Unavailable,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from trunkline.core.types import Delta, Failed, Relayed, Routed, Usage
from trunkline.gateway.config import Fallbacks, Retries, Target

DOWN = UpstreamFailed("connection refused")
RETRYABLE = [
    DOWN,
    UpstreamTimeout("no byte"),
    RateLimited("slow down"),
    QueueFull("full"),
    EngineCrashed("crashed"),
    Unavailable("loading"),
]


def test_routed_comes_first_and_the_rest_passes_as_it_is() -> None:
    setup = Setup(config("a/model-there"))
    sink, _ = setup.submit()
    call = setup["a"].last
    assert call.request().model == "model-there"
    call.text("one")
    call.text("two")
    call.finish(Usage(7, 2))
    assert sink.routed == Routed("r1", "a", "model-there")
    assert sink.text == "onetwo"
    assert sink.completed.usage == Usage(7, 2)
    assert setup.in_flight() == 0


def test_a_relaying_target_gets_the_bytes() -> None:
    setup = Setup(config("a/x"), relays="a")
    sink, _ = setup.relay(bad=True)
    call = setup["a"].last
    assert call.relayed
    assert call.asked.model == "x"
    call.text("data: 1\n\n")
    call.finish()
    assert [type(event) for event in sink.events[:2]] == [Routed, Relayed]


def test_a_target_of_another_dialect_gets_the_request_decoded() -> None:
    setup = Setup(config("a/x"))
    sink, _ = setup.relay()
    assert setup["a"].last.request().model == "x"
    setup["a"].last.text("hi")
    setup["a"].last.finish()
    assert isinstance(sink.events[1], Delta)


def test_what_cannot_be_decoded_fails_after_returning() -> None:
    setup = Setup(config("a"))
    sink, _ = setup.relay(bad=True)
    setup.clock.advance()
    assert sink.error == "invalid_request"
    assert sink.failed.error.param == "messages"
    assert setup["a"].calls == []
    assert setup.in_flight() == 0


def test_a_second_target_of_another_dialect_gets_the_request_decoded() -> None:
    setup = Setup(config(Target(backend="a", model="m"), Target(backend="b", order=1)), relays="a")
    sink, _ = setup.relay()
    setup["a"].last.fail(DOWN)
    setup["b"].last.text("hi")
    setup["b"].last.finish()
    assert (sink.text, sink.routed.fallbacks) == ("hi", 1)


@pytest.mark.parametrize("error", RETRYABLE, ids=lambda error: error.kind)
def test_another_target_is_asked_at_once(error: TrunklineError) -> None:
    setup = Setup(config("a", Target(backend="b", model="m", order=1)))
    sink, _ = setup.submit()
    setup["a"].last.fail(error)
    setup["b"].last.text("hi")
    setup["b"].last.finish()
    assert sink.routed == Routed("r1", "b", "m", retries=0, fallbacks=1)
    assert sink.text == "hi"
    assert setup.in_flight() == 0


def test_tries_of_the_same_target_are_retries_and_of_others_fallbacks() -> None:
    setup = Setup(
        config(
            "a",
            Target(backend="b", model="m", order=1),
            retries=Retries(attempts=2, base=1.0),
            fallbacks=Fallbacks(error=("o",)),
        ),
        config("c", name="o"),
    )
    sink, _ = setup.submit()
    setup["a"].last.fail(DOWN)
    counters = setup.route.state.counters
    assert (counters.retries, counters.fallbacks) == (0, 1)
    setup["b"].last.fail(DOWN)
    setup.clock.advance(2.0)
    assert (counters.retries, counters.fallbacks) == (1, 1)
    setup["a"].last.fail(DOWN)
    assert (counters.retries, counters.fallbacks) == (1, 2)
    setup["c"].last.text("hi")
    # The third target asked: two others had failed, one of them twice.
    assert sink.routed.backend == "c"
    assert sink.routed.fallbacks >= 1


@pytest.mark.parametrize("error", RETRYABLE, ids=lambda error: error.kind)
def test_the_only_target_is_asked_again_after_a_while(error: TrunklineError) -> None:
    setup = Setup(config("a", retries=Retries(attempts=2, base=1.0)))
    sink, _ = setup.submit()
    setup["a"].last.fail(error)
    assert len(setup["a"].calls) == 1
    setup.clock.advance(0.49)
    assert len(setup["a"].calls) == 1
    setup.clock.advance(0.6)
    assert len(setup["a"].calls) == 2
    setup["a"].last.fail(error)
    setup.clock.advance(0.99)
    assert len(setup["a"].calls) == 2
    setup.clock.advance(1.1)
    setup["a"].last.fail(error)
    assert sink.error == error.kind
    assert sink.routed == Routed("r1", "a", "m", retries=2)
    setup.clock.advance(100)
    assert len(setup["a"].calls) == 3
    assert setup.clock.pending() == 0


@pytest.mark.parametrize("error", [UpstreamRefused("key"), InternalError("bug")])
def test_a_target_that_is_wrong_for_good_is_asked_once(error: TrunklineError) -> None:
    setup = Setup(config("a", retries=Retries(attempts=5)))
    sink, _ = setup.submit()
    setup["a"].last.fail(error)
    assert sink.error == error.kind
    assert setup.clock.pending() == 0


def test_retry_after_is_waited_for() -> None:
    setup = Setup(config("a", retries=Retries(base=0.1, retry_after=10)))
    sink, _ = setup.submit()
    setup["a"].last.fail(RateLimited("later", retry_after=7))
    setup.clock.advance(6.9)
    assert len(setup["a"].calls) == 1
    setup.clock.advance(0.3)
    assert len(setup["a"].calls) == 2
    setup["a"].last.text("hi")
    assert sink.routed.retries == 1


def test_a_retry_after_that_is_too_long_is_told() -> None:
    setup = Setup(config("a", retries=Retries(retry_after=10)))
    sink, _ = setup.submit()
    setup["a"].last.fail(RateLimited("later", retry_after=60))
    assert sink.failed.error.retry_after == 60


def test_a_target_that_takes_no_more_is_left_alone_until_it_does() -> None:
    setup = Setup(config("a", Target(backend="b", model="m", order=1)))
    setup.submit()
    setup["a"].last.fail(RateLimited("later", retry_after=5))
    setup.submit()
    assert (len(setup["a"].calls), len(setup["b"].calls)) == (1, 2)
    setup.clock.advance(5.1)
    setup.submit()
    assert len(setup["a"].calls) == 2


TOO_LONG = [RateLimited("later", retry_after=60), UpstreamFailed("503", retry_after=60)]


@pytest.mark.parametrize("error", TOO_LONG, ids=lambda error: error.kind)
def test_a_target_is_not_asked_before_the_time_it_said(error: TrunklineError) -> None:
    setup = Setup(config("a", retries=Retries(retry_after=10)))
    setup.submit()
    setup["a"].last.fail(error)
    sink, _ = setup.submit()
    for passed in (20, 20):
        setup.clock.advance(passed)
        sink, _ = setup.submit()
        setup.clock.advance()
        assert (sink.error, sink.failed.error.message) == (error.kind, error.message)
    assert sink.failed.error.retry_after == pytest.approx(20)
    assert len(setup["a"].calls) == 1
    setup.clock.advance(20)
    setup.submit()
    assert len(setup["a"].calls) == 2


def test_a_time_that_makes_no_sense_has_a_bound() -> None:
    setup = Setup(config("a"))
    setup.submit()
    setup["a"].last.fail(RateLimited("later", retry_after=1e6))
    setup.clock.advance(3500)
    setup.submit()
    setup.clock.advance()
    assert len(setup["a"].calls) == 1
    setup.clock.advance(100)
    setup.submit()
    assert len(setup["a"].calls) == 2


@pytest.mark.parametrize("name", ["error", "rate_limit"])
def test_a_fallback_answers_while_a_target_takes_no_more(name: str) -> None:
    setup = Setup(config("a", fallbacks=Fallbacks(**{name: ("o",)})), config("b", name="o"))
    sink, _ = setup.submit()
    setup["a"].last.fail(RateLimited("later", retry_after=60))
    for _ in range(3):
        setup["b"].last.text("hi")
        setup["b"].last.finish()
        assert sink.text == "hi"
        sink, _ = setup.submit()
        setup.clock.advance()
    assert (len(setup["a"].calls), len(setup["b"].calls)) == (1, 4)


@pytest.mark.parametrize("order", [(60, 3), (3, 60)])
def test_the_target_that_is_free_sooner_is_waited_for(order: tuple[float, float]) -> None:
    setup = Setup(config("a", Target(backend="b", model="m", order=1)))
    sink, _ = setup.submit()
    for name, seconds in zip("ab", order, strict=True):
        setup[name].last.fail(RateLimited("later", retry_after=seconds))
    setup.clock.advance(3.1)
    (call,) = setup.open_calls()
    assert call.backend.name == "ab"[order.index(3)]
    call.text("hi")
    assert (sink.routed.retries, sink.routed.fallbacks) == (1, 1)


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (DOWN, ["e"]),
        (ContextOverflow("long"), ["c", "e"]),
        (ContentRefused("no"), ["p", "e"]),
        (RateLimited("slow"), ["r", "e"]),
    ],
    ids=["error", "context", "content", "rate"],
)
def test_fallbacks_by_what_went_wrong(error: TrunklineError, names: list[str]) -> None:
    fallbacks = Fallbacks(
        error=("e",), context_window=("c",), content_policy=("p",), rate_limit=("r",)
    )
    setup = Setup(
        config("a", fallbacks=fallbacks, retries=Retries(attempts=0)),
        *(config(name, name=name, retries=Retries(attempts=0)) for name in "ecpr"),
    )
    sink, _ = setup.submit()
    setup["a"].last.fail(error)
    for name in names:
        (call,) = setup.open_calls()
        assert call.backend.name == name
        if name == names[-1]:
            call.text("hi")
            call.finish()
        else:
            call.fail(DOWN)
    assert sink.routed == Routed("r1", "e", "m", fallbacks=len(names))
    assert sink.text == "hi"


def test_without_a_fallback_left_the_first_error_is_told() -> None:
    setup = Setup(
        config("a", fallbacks=Fallbacks(context_window=("b",))),
        config("b", name="b", retries=Retries(attempts=0)),
    )
    sink, _ = setup.submit()
    setup["a"].last.fail(ContextOverflow("too long for a"))
    setup["b"].last.fail(DOWN)
    assert sink.error == "context_overflow"


def test_routes_that_fall_back_to_each_other_end() -> None:
    no = Retries(attempts=0)
    setup = Setup(
        config("a", fallbacks=Fallbacks(error=("n", "m")), retries=no),
        config("b", name="n", fallbacks=Fallbacks(error=("m", "n")), retries=no),
    )
    sink, _ = setup.submit()
    setup["a"].last.fail(DOWN)
    setup["b"].last.fail(DOWN)
    assert sink.error == "upstream_failed"
    assert (len(setup["a"].calls), len(setup["b"].calls)) == (1, 1)


def test_a_fallback_is_cancelled_with_the_call() -> None:
    setup = Setup(
        config("a", fallbacks=Fallbacks(error=("n",)), retries=Retries(attempts=0)),
        config("b", name="n"),
    )
    sink, cancel = setup.submit()
    setup["a"].last.fail(DOWN)
    cancel()
    assert setup["b"].last.cancelled
    assert sink.events == []
    assert setup.in_flight() == 0


def test_nothing_starts_over_after_an_output() -> None:
    setup = Setup(
        config("a", "b", continue_streams=False, fallbacks=Fallbacks(error=("o",))),
        config("c", name="o"),
    )
    sink, _ = setup.submit()
    (call,) = setup.open_calls()
    call.text("half")
    call.fail(DOWN)
    assert (sink.text, sink.error) == ("half", "upstream_failed")
    assert setup.open_calls() == []


def test_output_that_fails_in_the_same_batch_never_went_out() -> None:
    setup = Setup(config("a", Target(backend="b", model="m", order=1)))
    sink, _ = setup.submit()
    setup["a"].last.send(Delta("r1", 0, "half"), Failed("r1", DOWN.info()))
    setup["b"].last.text("whole")
    setup["b"].last.finish()
    assert sink.text == "whole"


def test_fields_that_a_backend_left_out_are_told() -> None:
    setup = Setup(config("a"))
    sink, _ = setup.submit()
    setup["a"].last.send(Routed("r1", "?", "?", dropped=("seed",)))
    assert sink.events == []
    setup["a"].last.text("hi")
    assert sink.routed == Routed("r1", "a", "m", dropped=("seed",))


def test_cancel_stops_the_try_and_what_is_planned() -> None:
    setup = Setup(config("a", timeout=50.0))
    sink, cancel = setup.submit()
    setup["a"].last.fail(DOWN)
    assert setup.clock.pending() == 2
    cancel()
    cancel()
    assert setup.clock.pending() == 0
    setup.clock.advance(100)
    assert sink.events == []


def test_a_client_that_cancels_while_it_is_told_hears_no_more() -> None:
    setup = Setup(config("a", "b"))
    sink, cancel = setup.submit()
    (call,) = setup.open_calls()
    sink.on_events = lambda events: cancel()  # type: ignore[method-assign]
    call.text("one")
    assert call.cancelled
    assert setup.in_flight() == 0


def test_late_events_of_a_cancelled_try_are_not_looked_at() -> None:
    setup = Setup(config("a"))
    sink, cancel = setup.submit()
    call = setup["a"].last
    cancel()
    call.sink.on_events((Delta("r1", 0, "late"),))
    assert sink.events == []


@pytest.mark.parametrize("begun", [False, True])
def test_the_whole_call_has_a_time(begun: bool) -> None:
    setup = Setup(config("a", timeout=3.0))
    sink, _ = setup.submit()
    if begun:
        setup["a"].last.text("slow")
    setup.clock.advance(3.1)
    assert sink.error == "upstream_timeout"
    assert setup["a"].last.cancelled
    assert setup.in_flight() == 0
    assert setup.clock.pending() == 0


def test_a_failing_target_is_left_alone_and_tried_by_one() -> None:
    setup = Setup(config("a", retries=Retries(attempts=0)))
    for _ in range(5):
        setup.submit()
        setup["a"].last.fail(DOWN)
    sink, _ = setup.submit()
    setup.clock.advance()
    assert sink.error == "unavailable"
    assert sink.failed.error.retry_after == pytest.approx(5.0, abs=0.1)
    assert len(setup["a"].calls) == 5
    setup.clock.advance(5.1)
    setup.submit()
    assert len(setup["a"].calls) == 6
    second, _ = setup.submit()
    setup.clock.advance()
    assert second.error == "unavailable"
    setup["a"].last.text("well again")
    setup.submit()
    assert len(setup["a"].calls) == 7


def test_a_cancelled_probe_lets_the_next_one_try() -> None:
    setup = Setup(config("a", retries=Retries(attempts=0)))
    for _ in range(5):
        setup.submit()
        setup["a"].last.fail(DOWN)
    setup.clock.advance(5.1)
    _, cancel = setup.submit()
    cancel()
    setup.submit()
    assert len(setup["a"].calls) == 7


def test_a_route_without_targets_says_so() -> None:
    setup = Setup(config())
    sink, _ = setup.submit()
    setup.clock.advance()
    assert sink.error == "unavailable"
