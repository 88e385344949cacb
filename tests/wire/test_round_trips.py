"""Both directions of a dialect agree: what a codec renders, the speaker of its operation reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.client_support import STREAM, WHOLE, Sum, chat, raw, read, relay
from tests.wire.support import ANSWER, TIMING, token
from tests.wire.transcripts import CALLS, TEXTS, Case
from trunkline.core.types import (
    Completed,
    Delta,
    Event,
    FinishReason,
    Json,
    Request,
    RowFinished,
    SamplingParams,
    TextInput,
    ToolCallDelta,
    Usage,
)
from trunkline.wire.anthropic.messages import MESSAGES
from trunkline.wire.client import Speaker
from trunkline.wire.codec import Codec, Incoming
from trunkline.wire.openai.chat import CHAT
from trunkline.wire.openai.completions import COMPLETIONS
from trunkline.wire.openai.responses import RESPONSES
from trunkline.wire.speakers import SPEAKERS

TURNS = [{"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]


class Dialect(NamedTuple):
    """A codec, a body for it, and what its answers cannot say."""

    codec: Codec
    body: Json
    # Which stop string matched.
    stops: bool = True
    # White space alone, before calls.
    space: bool = True
    # Log probabilities.
    logprobs: Json | None = None

    @property
    def speaker(self) -> Speaker:
        return SPEAKERS[self.codec.operation]


DIALECTS = {
    "chat": Dialect(CHAT, {"messages": TURNS}, logprobs={"logprobs": True, "top_logprobs": 2}),
    "completions": Dialect(COMPLETIONS, {"prompt": "Hi"}, logprobs={"logprobs": 2}),
    "responses": Dialect(RESPONSES, {"input": "Hi"}, stops=False, logprobs={"top_logprobs": 2}),
    "messages": Dialect(MESSAGES, {"messages": TURNS, "max_tokens": 9}, space=False),
}
CHATTING = ("chat", "responses", "messages")
USAGE = Usage(20, 9, 5, 3)


def rendered(
    dialect: Dialect, events: Sequence[Event], *, stream: bool, usage: Usage = USAGE, **more: Any
) -> bytes:
    body = {"model": "m", "stream": stream, **dialect.body, **more}
    if stream and dialect.codec in (CHAT, COMPLETIONS):
        body["stream_options"] = {"include_usage": True}
    asked: Any = dialect.codec.decode(Incoming(json.dumps(body).encode()))
    renderer = asked.renderer(ANSWER)
    out = b"".join(renderer.take(0, (event,)) for event in events)
    return out + bytes(renderer.finish(usage, TIMING))


def asked_for(dialect: Dialect, **more: Any) -> Request:
    if dialect.codec is COMPLETIONS:
        return Request(id="r", model="m", input=TextInput("Hi"), **more)
    return chat(**more)


def expected(dialect: Dialect, events: Sequence[Event]) -> Sum:
    """What is to arrive."""
    found = Sum((*events, Completed("r", USAGE, TIMING)))
    if not dialect.stops:
        found.ends = {row: (reason, None) for row, (reason, _) in found.ends.items()}
    return found


def same(dialect: Dialect, events: Sequence[Event], *, stream: bool, size: int | None) -> None:
    body = rendered(dialect, events, stream=stream)
    head = STREAM if stream else WHOLE
    got = Sum(read(dialect.speaker, asked_for(dialect, n=3), body, head=head, size=size))
    wanted = expected(dialect, events)
    for row in wanted.ends:
        assert got.text.get(row, "") == wanted.text.get(row, "")
        assert got.reasoning.get(row, "") == wanted.reasoning.get(row, "")
    assert got.ends == wanted.ends
    assert got.calls == wanted.calls
    assert got.usage == wanted.usage


def fit(dialect: Dialect, case: Case) -> bool:
    """Whether the dialect can say all of a case."""
    if dialect.codec is COMPLETIONS:
        return not case.calls and not case.reasoning
    # Where which stop string it was is not told, a call that one cut looks like a whole one.
    return case.whole or dialect.codec is CHAT


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("case", [*TEXTS, *CALLS], ids=lambda case: case.name)
@pytest.mark.parametrize("name", DIALECTS)
def test_awkward_answers(name: str, case: Case, stream: bool) -> None:
    dialect = DIALECTS[name]
    if fit(dialect, case):
        for size in (1, 7, None):
            same(dialect, case.events, stream=stream, size=size)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
arguments = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3)
reasons: st.SearchStrategy[FinishReason] = st.sampled_from(("stop", "length", "content_filter"))


@st.composite
def answers(draw: st.DrawFn, *, calls: bool) -> list[Event]:
    """Reasoning, text and calls of one row, in random pieces."""
    events: list[Event] = []
    reason: FinishReason = draw(reasons)
    if calls:
        events += [Delta("r", 0, "", (), None, one) for one in draw(st.lists(texts, max_size=3))]
    said = draw(st.lists(texts, min_size=1, max_size=4))
    events += [Delta("r", 0, one) for one in ["Well:", *said]]
    for index in range(draw(st.integers(0, 3)) if calls else 0):
        reason = "tool_calls"
        text = json.dumps(draw(arguments))
        cut = draw(st.integers(0, len(text)))
        first = ToolCallDelta(index, f"call_{index}", f"f{index}", text[:cut])
        pieces = [first, ToolCallDelta(index, None, None, text[cut:])]
        events += [Delta("r", 0, "", tool_calls=(piece,)) for piece in pieces]
    return [*events, RowFinished("r", 0, reason)]


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=40, deadline=None)
@given(data=st.data(), stream=st.booleans(), size=st.none() | st.integers(1, 200))
def test_any_answer(name: str, data: st.DataObject, stream: bool, size: int | None) -> None:
    dialect = DIALECTS[name]
    events = data.draw(answers(calls=name in CHATTING))
    same(dialect, events, stream=stream, size=size)


@pytest.mark.parametrize("name", ["chat", "completions"])
@pytest.mark.parametrize("stream", [True, False])
def test_several_rows(name: str, stream: bool) -> None:
    events: list[Event] = [
        Delta("r", 1, "b1"),
        Delta("r", 0, "a1"),
        RowFinished("r", 1, "length"),
        Delta("r", 0, "a2"),
        Delta("r", 2, "c"),
        RowFinished("r", 2, "stop", 7),
        RowFinished("r", 0, "stop", "END"),
    ]
    dialect = DIALECTS[name]
    body = rendered(dialect, events, stream=stream, n=3)
    got = Sum(
        read(dialect.speaker, asked_for(dialect, n=3), body, head=STREAM if stream else WHOLE)
    )
    assert got.text == {0: "a1a2", 1: "b1", 2: "c"}
    assert got.ends == {0: ("stop", "END"), 1: ("length", None), 2: ("stop", 7)}


@pytest.mark.parametrize("name", ["chat", "completions", "responses"])
@pytest.mark.parametrize("stream", [True, False])
def test_log_probabilities(name: str, stream: bool) -> None:
    dialect = DIALECTS[name]
    shown = [token("Hé", 5, -0.25, 2), token(" you", 6, -1.5, 2)]
    events: list[Event] = [
        *(Delta("r", 0, one.token, (one.token_id,), (one,)) for one in shown),
        RowFinished("r", 0, "stop"),
    ]
    body = rendered(dialect, events, stream=stream, **dialect.logprobs or {})
    request = asked_for(dialect, sampling=SamplingParams(logprobs=2))
    got = Sum(read(dialect.speaker, request, body, head=STREAM if stream else WHOLE))
    assert [(one.token, one.data, one.logprob) for one in got.logprobs] == [
        (one.token, one.data, one.logprob) for one in shown
    ]
    assert [[(top[0], top[1], top[3]) for top in one.top] for one in got.logprobs] == [
        [(top[0], top[1], top[3]) for top in one.top] for one in shown
    ]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("case", [*TEXTS, *CALLS], ids=lambda case: case.name)
@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_passed_on_is_the_same_but_for_the_model(
    name: str, case: Case, stream: bool
) -> None:
    dialect = DIALECTS[name]
    if name == "completions" and not fit(dialect, case):
        return
    theirs = rendered(dialect, case.events, stream=stream)
    body = {"model": "asked", "stream": stream, **dialect.body}
    if stream and dialect.codec in (CHAT, COMPLETIONS):
        body["stream_options"] = {"include_usage": True}
    asked = raw(dialect.speaker, json.dumps(body).encode(), asked="asked")
    for size in (1, 7, None):
        head = STREAM if stream else WHOLE
        ours, usage = relay(dialect.speaker, asked, theirs, head=head, size=size)
        assert ours == theirs.replace(b'"model":"m"', b'"model":"asked"')
        assert b'"model":"asked"' in ours
        assert usage == USAGE
