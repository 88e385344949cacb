from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.gateway.fakes import FakeSpeaker, Setup, config
from trunkline.core.errors import UpstreamFailed
from trunkline.core.types import Delta, ToolCallDelta, Usage
from trunkline.gateway.config import Shadow
from trunkline.gateway.shadow import Comparison


def shadowed(
    share: float = 1.0,
    most: int = 16,
    relays: str = "",
    compared: Callable[..., None] | None = None,
) -> Setup:
    return Setup(
        config("a", shadow=Shadow(route="s", share=share, most=most)),
        config("b/other", name="s"),
        relays=relays,
        speakers={"test.chat": FakeSpeaker()},
        compared=compared,
    )


@pytest.mark.parametrize("relays", ["", "a", "b", "ab"])
@pytest.mark.parametrize(("copy", "equal"), [("one\n", True), ("two\n", False)])
def test_both_answers_are_compared(relays: str, copy: str, equal: bool) -> None:
    seen: list[Comparison] = []
    setup = shadowed(relays=relays, compared=seen.append)
    sink, _ = setup.relay()
    setup["a"].last.text("one\n")
    setup["a"].last.finish(Usage(10, 1))
    assert sink.text == "one\n"
    setup.clock.advance(2.0)
    setup["b"].last.text(copy)
    setup["b"].last.finish(Usage(11, 2))
    assert seen == []
    setup.clock.advance()
    (comparison,) = seen
    assert comparison.equal is equal
    assert (comparison.answer.text, comparison.copy.text) == ("one\n", copy)
    assert (comparison.answer.backend, comparison.copy.backend) == ("a", "b")
    assert comparison.copy.model == "other"
    assert comparison.answer.finish == comparison.copy.finish == ("stop",)
    assert comparison.copy.usage == Usage(11, 2)
    assert (comparison.answer.total, comparison.copy.total) == (0.0, 2.0)
    counters = setup.routes.report()[0].shadows
    assert counters is not None
    assert (counters.sent, counters.compared, counters.equal) == (1, 1, int(equal))
    assert setup.clock.pending() == 0


def test_a_copy_that_fails_changes_nothing_for_the_client() -> None:
    setup = shadowed()
    sink, _ = setup.submit()
    setup["b"].last.fail(UpstreamFailed("down"))
    setup["a"].last.text("one")
    setup["a"].last.finish()
    assert sink.text == "one"
    setup.clock.advance(10)
    for call in setup.open_calls():
        call.fail(UpstreamFailed("down"))
        setup.clock.advance(10)
    for call in setup.open_calls():
        call.fail(UpstreamFailed("down"))
    setup.clock.advance(10)
    counters = setup.routes.report()[0].shadows
    assert counters is not None
    assert (counters.failed, counters.equal) == (1, 0)


def test_copies_are_bounded() -> None:
    setup = shadowed(most=2)
    for _ in range(5):
        setup.submit()
    assert (len(setup["a"].calls), len(setup["b"].calls)) == (5, 2)
    counters = setup.routes.report()[0].shadows
    assert counters is not None
    assert counters.skipped == 3


def test_a_share_of_the_requests_is_copied() -> None:
    setup = shadowed(share=0.2, most=1000)
    for _ in range(500):
        setup.submit()
    assert len(setup["b"].calls) == pytest.approx(100, abs=30)


def test_cancel_takes_the_copy_with_it() -> None:
    setup = shadowed(most=1)
    _, cancel = setup.submit()
    cancel()
    assert setup.open_calls() == []
    setup.submit()
    assert len(setup["b"].calls) == 2
    setup.routes.close()
    assert [call.backend.name for call in setup.open_calls()] == ["a"]
    assert setup.in_flight() == 1


@pytest.mark.parametrize(
    "delta",
    [
        Delta("r", 0, "x" * (1 << 20)),
        Delta("r", 0, "", reasoning="x" * (1 << 20)),
        Delta("r", 0, "", tool_calls=(ToolCallDelta(0, "c", "f", "x" * (1 << 20)),)),
    ],
    ids=["text", "reasoning", "call"],
)
def test_what_is_too_long_is_not_compared(delta: Delta) -> None:
    seen: list[Comparison] = []
    setup = shadowed(compared=seen.append)
    setup.submit()
    for name in "ab":
        setup[name].last.send(delta)
        setup[name].last.text("x")
        setup[name].last.finish()
    setup.clock.advance()
    assert seen[0].equal is None
    assert seen[0].answer.text is None
