from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.gateway.fakes import FakeSpeaker, Setup, Sink, chat, config
from trunkline.core.errors import EngineCrashed, InvalidRequest, UpstreamFailed, UpstreamTimeout
from trunkline.core.types import (
    ChatInput,
    Completed,
    Delta,
    Grammar,
    Message,
    Relayed,
    Resumed,
    Routed,
    RowFinished,
    SamplingParams,
    TextInput,
    TokenLogprob,
    TokensInput,
    ToolCallDelta,
    Usage,
)
from trunkline.gateway.config import Fallbacks, Retries, Target

DOWN = UpstreamFailed("connection reset")
TARGETS = (
    Target(backend="a", model="m"),
    Target(backend="b", model="m", order=1),
    Target(backend="c", model="m", order=2),
)


def broken(*pieces: str, **changes: object) -> tuple[Setup, Sink, Callable[[], None]]:
    """A stream of `a` that broke off after `pieces`."""
    setup = Setup(config(*TARGETS))
    sink, cancel = setup.submit(**changes)
    for piece in pieces:
        setup["a"].last.text(piece)
    setup["a"].last.fail(DOWN)
    return setup, sink, cancel


def test_one_that_is_asked_to_relay_and_translates_is_continued() -> None:
    setup = Setup(config(*TARGETS), relays="a")
    sink, _ = setup.relay(input=chat("hi"))
    call = setup["a"].last
    assert call.relayed
    call.send(Delta(call.asked.id, 0, "The quick", (1, 2)))
    call.fail(DOWN)
    setup["b"].last.text(" brown")
    setup["b"].last.finish()
    assert sink.text == "The quick brown"
    assert not any(isinstance(event, Resumed) for event in sink.events)


def test_an_empty_relayed_answer_to_what_nobody_here_can_read_is_passed_on() -> None:
    setup = Setup(config(*TARGETS), relays="abc")
    sink, _ = setup.relay(bad=True)
    setup["a"].last.finish()
    assert isinstance(sink.events[-1], Completed)
    assert setup.in_flight() == 0


@pytest.mark.parametrize("error", [DOWN, UpstreamTimeout("idle"), EngineCrashed("died")])
def test_another_target_goes_on_with_the_text(error: UpstreamFailed) -> None:
    setup = Setup(config(*TARGETS))
    sink, _ = setup.submit(input=chat("hi"))
    setup["a"].last.text("The quick", 2)
    setup["a"].last.fail(error)
    rest = setup["b"].last
    asked = rest.request()
    assert isinstance(asked.input, ChatInput)
    assert asked.input.messages[1:] == (Message("assistant", "The quick"),)
    assert asked.input.continue_final_message
    assert not asked.input.add_generation_prompt
    assert asked.sampling.max_tokens == 98
    rest.text(" brown", 1)
    rest.finish(Usage(12, 1, 4))
    assert sink.text == "The quick brown"
    assert sink.completed.usage == Usage(10, 3, 4)
    assert sink.routed.backend == "a"
    assert setup.route.state.counters.continued == 1
    assert setup.in_flight() == 0


@pytest.mark.parametrize(
    ("sent", "told", "usage"),
    [
        # Of what was out, some was read from the cache, or written to it.
        ("The quick", Usage(12, 1, 11), Usage(10, 3, 10)),
        ("The quick", Usage(12, 1, 4, 0, 8), Usage(10, 3, 4, 0, 6)),
        # White space alone is not in the prompt.
        (" ", Usage(10, 1, 4), Usage(10, 3, 4)),
    ],
)
def test_what_was_out_counts_as_output_alone(sent: str, told: Usage, usage: Usage) -> None:
    setup = Setup(config(*TARGETS))
    sink, _ = setup.submit(input=chat("hi"))
    setup["a"].last.text(sent, 2)
    setup["a"].last.fail(DOWN)
    setup["b"].last.text("!", 1)
    setup["b"].last.finish(told)
    assert sink.completed.usage == usage


def test_a_raw_prompt_goes_on_behind_its_text() -> None:
    setup, sink, _ = broken("to be", " or", input=TextInput("Once: "))
    assert setup["b"].last.request().input == TextInput("Once: to be or")
    setup["b"].last.text(" not")
    setup["b"].last.finish()
    assert sink.text == "to be or not"


def test_an_answer_that_the_client_began_goes_on() -> None:
    begun = ChatInput(
        (Message("user", "hi"), Message("assistant", "Well")),
        add_generation_prompt=False,
        continue_final_message=True,
    )
    setup, _, _ = broken(", then", input=begun)
    asked = setup["b"].last.request().input
    assert isinstance(asked, ChatInput)
    assert asked.messages[1:] == (Message("assistant", "Well, then"),)


@pytest.mark.parametrize(
    ("sent", "rest", "whole"),
    [
        ("Hello ", [" ", "there"], "Hello there"),
        ("Hello ", [" there"], "Hello there"),
        ("Hello ", ["there"], "Hello there"),
        ("Hello\n", ["\n\nthere"], "Hello\n\nthere"),
        ("Hello", [" there"], "Hello there"),
        (" \n", [" ", "\nHello"], " \nHello"),
    ],
)
def test_white_space_is_neither_doubled_nor_lost(sent: str, rest: list[str], whole: str) -> None:
    setup, sink, _ = broken(sent)
    asked = setup["b"].last.request().input
    assert isinstance(asked, ChatInput)
    if sent.strip():
        assert asked.messages[-1].content == sent.rstrip()
    else:
        assert asked == chat("hi")
    for piece in rest:
        setup["b"].last.text(piece)
    setup["b"].last.finish()
    assert sink.text == whole


def test_it_may_break_off_again() -> None:
    setup, sink, _ = broken("one ")
    setup["b"].last.text("two ")
    setup["b"].last.fail(DOWN)
    asked = setup["c"].last.request()
    assert isinstance(asked.input, ChatInput)
    assert asked.input.messages[-1].content == "one two"
    assert asked.sampling.max_tokens == 98
    setup["c"].last.text(" three")
    setup["c"].last.finish(Usage(22, 1))
    assert sink.text == "one two three"
    assert sink.completed.usage == Usage(20, 3)


def test_a_target_that_cannot_go_on_is_passed_over() -> None:
    setup, sink, _ = broken("one")
    setup["b"].last.fail(InvalidRequest("cannot continue"))
    setup["c"].last.send(
        Routed("r1", "c", "m", dropped=("continue_final_message",)), Delta("r1", 0, "?")
    )
    assert setup["c"].last.cancelled
    assert (sink.text, sink.error) == ("one", "upstream_failed")
    assert setup.in_flight() == 0


def fallen_back(relays: str = "") -> Setup:
    """One target, and another route to fall back to."""
    return Setup(
        config("a", fallbacks=Fallbacks(error=("o",))),
        config("b", "c", name="o"),
        relays=relays,
        speakers={"test.chat": FakeSpeaker()},
    )


@pytest.mark.parametrize("relays", ["", "a", "ab"])
def test_another_route_goes_on(relays: str) -> None:
    setup = fallen_back(relays)
    sink, _ = setup.relay(input=chat("hi"))
    setup["a"].last.text("one \n")
    setup["a"].last.fail(DOWN)
    (rest,) = (*setup["b"].calls, *setup["c"].calls)
    asked = rest.request()
    assert isinstance(asked.input, ChatInput)
    assert asked.input.messages[-1].content == "one"
    assert asked.sampling.max_tokens == 99
    rest.text("two ", 1)
    # There, too, another target goes on.
    rest.fail(DOWN)
    (last,) = (one for name in "bc" for one in setup[name].calls if one is not rest)
    last.text("three", 1)
    last.finish(Usage(12, 1))
    said = [event.text for event in sink.events if isinstance(event, Delta)]
    assert "".join(said).endswith("two three")
    assert sink.routed.backend == "a"
    assert sink.completed.usage.completion_tokens == 3
    assert setup.route.state.counters.continued == 1
    assert setup.in_flight() == 0


def test_a_route_that_cannot_go_on_leaves_the_first_error() -> None:
    setup = fallen_back()
    sink, _ = setup.submit()
    setup["a"].last.text("one")
    setup["a"].last.fail(DOWN)
    for name in "bc":
        for call in setup[name].calls:
            call.send(Routed("r1", name, "m", dropped=("continue_final_message",)))
            call.send(Delta("r1", 0, "?"))
    assert (sink.text, sink.error) == ("one", "upstream_failed")
    assert setup.in_flight() == 0


def test_cancel_stops_the_route_that_goes_on() -> None:
    setup = fallen_back()
    _, cancel = setup.submit()
    setup["a"].last.text("one")
    setup["a"].last.fail(DOWN)
    cancel()
    assert setup.open_calls() == []
    assert setup.in_flight() == 0


def test_retries_bound_it() -> None:
    setup = Setup(config(*TARGETS, retries=Retries(attempts=0)))
    sink, _ = setup.submit()
    setup["a"].last.text("one")
    setup["a"].last.fail(DOWN)
    assert sink.error == "upstream_failed"
    assert setup["b"].calls == []


def test_cancel_stops_who_goes_on() -> None:
    setup, sink, cancel = broken("one")
    cancel()
    assert setup["b"].last.cancelled
    assert sink.text == "one"
    assert not sink.ended


def test_all_that_was_asked_for_is_there() -> None:
    setup, sink, _ = broken("one", "two", sampling=SamplingParams(max_tokens=2))
    assert setup["b"].calls == []
    assert isinstance(sink.events[-2], RowFinished)
    assert sink.events[-2].reason == "length"
    assert sink.completed.usage.completion_tokens == 2


def test_thinking_that_is_over_goes_with_it() -> None:
    setup = Setup(config(*TARGETS))
    sink, _ = setup.submit()
    setup["a"].last.send(Delta("r1", 0, "", (1,), reasoning="hm"))
    setup["a"].last.send(Delta("r1", 0, "So", (1,)))
    setup["a"].last.fail(DOWN)
    asked = setup["b"].last.request().input
    assert isinstance(asked, ChatInput)
    assert asked.messages[-1] == Message("assistant", "So", reasoning_content="hm")
    assert not sink.ended


@pytest.mark.parametrize("implied", [(), ("return_prompt_ids",)])
def test_ids_of_the_prompt_are_asked_for_or_merely_shown(implied: tuple[str, ...]) -> None:
    """Ollama's clients get them without asking: then an answer goes on without."""
    setup, sink, _ = broken("one", return_prompt_ids=True, implied=implied)
    if implied:
        assert not setup["b"].last.request().return_prompt_ids
    else:
        assert (sink.error, setup["b"].calls) == ("upstream_failed", [])


LOGPROB = TokenLogprob("x", b"x", 1, -1.0)


@pytest.mark.parametrize(
    "delta",
    [
        Delta("r1", 0, "x", tool_calls=(ToolCallDelta(0, "id", "f", "{"),)),
        Delta("r1", 0, "x", logprobs=(LOGPROB,)),
        Delta("r1", 0, "", reasoning="still thinking"),
    ],
    ids=["tool call", "logprobs", "thinking"],
)
def test_what_is_under_way_cannot_go_on_elsewhere(delta: Delta) -> None:
    setup = Setup(config(*TARGETS))
    sink, _ = setup.submit()
    setup["a"].last.send(delta)
    setup["a"].last.fail(DOWN)
    assert sink.error == "upstream_failed"
    assert setup["b"].calls == []


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 2},
        {"sampling": SamplingParams(logprobs=0)},
        {"grammar": Grammar("json_object")},
        {"tool_choice": "required"},
        {"show_prompt": True},
        {"input": TokensInput((1, 2))},
        {"input": ChatInput((Message("user", "x"),), prefix_ids=(1,))},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_requests_that_cannot_be_split_are_not(changes: dict[str, object]) -> None:
    setup, sink, _ = broken("one", **changes)
    assert sink.error == "upstream_failed"
    assert setup["b"].calls == []


def test_a_finished_row_is_not_continued() -> None:
    setup = Setup(config(*TARGETS))
    sink, _ = setup.submit()
    setup["a"].last.send(Delta("r1", 0, "one"), RowFinished("r1", 0, "stop"))
    setup["a"].last.fail(DOWN)
    assert sink.error == "upstream_failed"


def relayed(speaker: bool = True, **changes: object) -> tuple[Setup, Sink]:
    setup = Setup(
        config(*TARGETS),
        relays="ab",
        speakers={"test.chat": FakeSpeaker()} if speaker else None,
    )
    sink, _ = setup.relay(**changes)
    return setup, sink


def test_a_relayed_stream_goes_on_in_core_events() -> None:
    setup, sink = relayed()
    setup["a"].last.text("one \n")
    setup["a"].last.text("two \n")
    setup["a"].last.fail(DOWN)
    rest = setup["b"].last
    asked = rest.request()
    assert isinstance(asked.input, ChatInput)
    assert asked.input.messages[-1].content == "one \ntwo"
    assert asked.sampling.max_tokens == 98
    rest.text("three")
    rest.finish(Usage(12, 1))
    assert [type(event) for event in sink.events] == [
        *(Routed, Relayed, Relayed, Resumed, Delta, RowFinished, Completed)
    ]
    resumed = sink.events[3]
    assert isinstance(resumed, Resumed)
    assert resumed.sent.text == "one \ntwo \n"
    assert resumed.relayed == b"one \ntwo \n"
    assert sink.completed.usage == Usage(10, 3)


def test_after_a_change_of_hands_deltas_are_known() -> None:
    setup, sink = relayed()
    setup["a"].last.text("one \n")
    setup["a"].last.fail(DOWN)
    setup["b"].last.text("two ")
    setup["b"].last.fail(DOWN)
    asked = setup["c"].last.request().input
    assert isinstance(asked, ChatInput)
    assert asked.messages[-1].content == "one \ntwo"
    setup["c"].last.text("three")
    setup["c"].last.finish()
    assert sum(isinstance(event, Resumed) for event in sink.events) == 1


@pytest.mark.parametrize(
    ("speaker", "text", "changes"),
    [
        (False, "one\n", {}),
        (True, "one!\n", {}),
        (True, "one\n\0", {}),
        (True, "one\n", {"stream": False}),
        (True, "one\n", {"bad": True}),
        (True, "x" * (1 << 20) + "\n", {}),
    ],
    ids=["nobody reads it", "unreadable", "finished", "whole", "undecodable", "too long"],
)
def test_a_relayed_stream_that_is_not_known_ends(
    speaker: bool, text: str, changes: dict[str, object]
) -> None:
    setup, sink = relayed(speaker, **changes)
    setup["a"].last.text(text)
    setup["a"].last.text("more\n")
    setup["a"].last.fail(DOWN)
    assert sink.error == "upstream_failed"
    assert setup["b"].calls == []
