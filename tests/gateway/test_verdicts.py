"""Who is asked after what went wrong: nobody, another target, the next order, a fallback."""

from __future__ import annotations

import pytest

from tests.gateway.fakes import Setup, config
from trunkline.core.errors import (
    InvalidRequest,
    PayloadTooLarge,
    TrunklineError,
    Unprocessable,
    Unsupported,
    UpstreamFailed,
)
from trunkline.gateway.config import Fallbacks, Retries, Target

DOWN = UpstreamFailed("connection refused")
OWN = [InvalidRequest("bad"), Unprocessable("bad"), PayloadTooLarge("big")]


@pytest.mark.parametrize("error", OWN, ids=lambda error: error.kind)
def test_the_clients_own_errors_are_told_at_once(error: TrunklineError) -> None:
    setup = Setup(config("a", "b"))
    sink, _ = setup.submit()
    (call,) = setup.open_calls()
    call.fail(error)
    assert sink.error == error.kind
    assert setup.open_calls() == []
    assert all(one.breaker.closed for one in setup.route.endpoints)


@pytest.mark.parametrize("error", OWN, ids=lambda error: error.kind)
def test_a_fallback_may_see_the_clients_own_errors_otherwise(error: TrunklineError) -> None:
    other = config("c", name="other", retries=Retries(attempts=0))
    setup = Setup(config("a", "b", fallbacks=Fallbacks(error=("other",))), other)
    answered, _ = setup.submit()
    setup.open_calls()[0].fail(error)
    setup["c"].last.text("hi")
    setup["c"].last.finish()
    assert answered.routed.backend == "c"
    refused, _ = setup.submit()
    setup.open_calls()[0].fail(error)
    setup["c"].last.fail(UpstreamFailed("gone"))
    # What it is told is what was wrong with its own model, and that another was asked.
    assert refused.error == error.kind
    assert refused.routed.fallbacks == 1
    assert all(one.breaker.closed for one in setup.route.endpoints)


def test_what_one_target_cannot_do_another_may() -> None:
    setup = Setup(config("a", Target(backend="b", model="m", order=1)))
    sink, _ = setup.submit()
    setup["a"].last.fail(Unsupported("top_k"))
    setup["b"].last.text("hi")
    setup["b"].last.finish()
    assert sink.text == "hi"
    assert all(one.breaker.closed for one in setup.route.endpoints)
    # Where nobody can, nobody is asked twice.
    sink, _ = setup.submit()
    setup["a"].last.fail(Unsupported("top_k"))
    setup["b"].last.fail(Unsupported("top_k"))
    assert sink.error == "unsupported"
    assert setup.clock.pending() == 0


def test_what_cannot_be_translated_goes_to_one_that_takes_it_as_it_is() -> None:
    targets = ("a", Target(backend="b", model="m", order=1))
    setup = Setup(config(*targets), relays="b")
    sink, _ = setup.relay(bad=Unsupported("images"))
    setup.clock.advance()
    assert not setup["a"].calls
    setup["b"].last.text("hi")
    setup["b"].last.finish()
    assert sink.text == "hi"
    alone = Setup(config(*targets))
    sink, _ = alone.relay(bad=Unsupported("images"))
    alone.clock.advance()
    assert sink.error == "unsupported"
    assert alone.clock.pending() == 0


@pytest.mark.parametrize("attempts", [0, 1, 2, 5])
def test_each_order_is_asked_before_a_fallback(attempts: int) -> None:
    levels = [Target(backend=name, model="m", order=order) for order, name in ((0, "a"), (0, "b"))]
    levels += [Target(backend="c", model="m", order=1), Target(backend="d", model="m", order=2)]
    setup = Setup(
        config(
            *levels,
            retries=Retries(attempts=attempts, base=1.0),
            fallbacks=Fallbacks(error=("other",)),
        ),
        config("e", name="other"),
    )
    sink, _ = setup.submit()
    for _ in range(20):
        (call,) = setup.open_calls()
        if call.backend.name == "e":
            break
        call.fail(DOWN)
        setup.clock.advance(100.0)
    asked = [len(setup[name].calls) for name in "abcd"]
    assert sum(asked[:2]) >= 1
    assert min(asked[2:]) >= 1
    # As many tries as there may be, and one more for each order that had none.
    assert sum(asked) == max(attempts + 1, sum(asked[:2]) + 2)
    setup["e"].last.text("hi")
    assert sink.routed.backend == "e"
