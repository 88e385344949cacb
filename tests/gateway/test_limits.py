"""Bounds of targets, and the queue before them."""

from __future__ import annotations

import pytest

from tests.gateway.fakes import Setup, config
from trunkline.core.errors import UpstreamFailed, UpstreamRefused
from trunkline.core.types import Usage
from trunkline.gateway.config import Fallbacks, Retries, Target

ONE = Target(backend="a", model="m", max_parallel=1)


def test_requests_wait_their_turn() -> None:
    setup = Setup(config(ONE))
    sinks = [setup.submit()[0] for _ in range(3)]
    setup.clock.advance()
    assert len(setup["a"].calls) == 1
    assert setup.routes.report()[0].queued == 2
    assert setup.routes.busy()
    for number, sink in enumerate(sinks):
        assert setup["a"].last.asked.id == f"r{number + 1}"
        setup["a"].last.text("hi")
        setup["a"].last.finish()
        assert sink.ended
        setup.clock.advance()
    assert setup.clock.pending() == 0
    assert not setup.routes.busy()


def test_one_that_comes_later_does_not_overtake() -> None:
    setup = Setup(config(ONE))
    setup.submit()
    setup.submit()
    setup.clock.advance()
    setup["a"].last.text("hi")
    setup["a"].last.finish()
    setup.submit()
    setup.clock.advance()
    assert setup["a"].last.asked.id == "r2"


def test_a_full_queue_refuses_with_a_time() -> None:
    setup = Setup(config(ONE, queue=1))
    sinks = [setup.submit()[0] for _ in range(3)]
    setup.clock.advance()
    assert [sink.error for sink in sinks] == ["", "", "queue_full"]
    assert sinks[2].failed.error.retry_after
    assert setup.route.state.counters.rejected == 1


def test_waiting_has_a_bound() -> None:
    setup = Setup(config(ONE, queue_timeout=3.0))
    setup.submit()
    sink, _ = setup.submit()
    setup.clock.advance(2.9)
    assert sink.error == ""
    setup.clock.advance(0.2)
    assert sink.error == "queue_full"
    assert setup.clock.pending() == 0


def test_one_that_leaves_makes_room() -> None:
    setup = Setup(config(ONE, queue=1))
    setup.submit()
    _, cancel = setup.submit()
    setup.clock.advance()
    cancel()
    sink, _ = setup.submit()
    setup.clock.advance()
    assert sink.error == ""
    setup["a"].last.text("hi")
    setup["a"].last.finish()
    setup.clock.advance()
    assert setup["a"].last.asked.id == "r3"


def test_a_client_that_goes_frees_its_target() -> None:
    setup = Setup(config(ONE))
    _, cancel = setup.submit()
    setup.submit()
    setup.clock.advance()
    cancel()
    setup.clock.advance()
    assert setup["a"].last.asked.id == "r2"


def test_requests_a_minute() -> None:
    setup = Setup(config(Target(backend="a", model="m", rpm=2), queue_timeout=90.0))
    for _ in range(2):
        setup.submit()
        setup["a"].last.text("hi")
        setup["a"].last.finish()
    sink, _ = setup.submit()
    setup.clock.advance(59)
    assert len(setup["a"].calls) == 2
    setup.clock.advance(4)
    assert len(setup["a"].calls) == 3
    assert sink.error == ""


def test_a_wait_that_is_known_to_be_too_long_is_not_begun() -> None:
    setup = Setup(config(Target(backend="a", model="m", rpm=1), queue_timeout=10.0))
    setup.submit()
    sink, _ = setup.submit()
    setup.clock.advance()
    assert sink.error == "queue_full"
    assert sink.failed.error.retry_after == pytest.approx(60, abs=3)


def test_tokens_a_minute() -> None:
    setup = Setup(config(Target(backend="a", model="m", tpm=100), "b"))
    first = setup["a"].calls
    while not first:
        setup.submit()
    first[0].text("hi")
    first[0].finish(Usage(80, 40))
    begun = len(first)
    for _ in range(20):
        setup.submit()
    assert len(first) == begun
    setup.clock.advance(63)
    for _ in range(20):
        setup.submit()
    assert len(first) > begun


def test_at_their_limits_the_fallback_is_asked_at_once() -> None:
    setup = Setup(config(ONE, fallbacks=Fallbacks(rate_limit=("o",))), config("b", name="o"))
    setup.submit()
    sink, _ = setup.submit()
    setup.clock.advance()
    setup["b"].last.text("hi")
    assert (sink.routed.backend, sink.routed.fallbacks) == ("b", 0)


def test_those_who_wait_are_told_when_nobody_is_left() -> None:
    setup = Setup(
        config(ONE, retries=Retries(attempts=0), fallbacks=Fallbacks(error=("o",))),
        config("b", name="o"),
    )
    setup.submit()
    waiting, _ = setup.submit()
    setup.clock.advance()
    breaker = setup.route.endpoints[0].breaker
    breaker.row = 4
    setup["a"].last.fail(UpstreamFailed("down"))
    setup.clock.advance()
    assert len(setup["b"].calls) == 2
    assert waiting.error == ""


def test_one_that_waits_for_a_certain_target_blocks_nobody() -> None:
    setup = Setup(config(ONE, Target(backend="b", model="m", max_parallel=1)))
    setup.submit()
    setup.submit()
    setup.submit()
    setup.clock.advance()
    assert len(setup.open_calls()) == 2
    # This one may not go back to `a`, and `b` is taken: it waits, and the third one takes `a`.
    setup["a"].last.fail(UpstreamRefused("key"))
    setup.clock.advance(1.0)
    assert setup["a"].last.asked.id == "r3"
    assert setup.routes.report()[0].queued == 1
    setup.submit()
    setup["b"].last.text("hi")
    setup["b"].last.finish()
    setup.clock.advance()
    assert len(setup["b"].calls) == 2
    assert setup.in_flight() == 2
