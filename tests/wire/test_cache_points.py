"""Marks come out behind the text that their client put them behind, in every pair of dialects."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.anthropic.sending import sent as to_anthropic
from tests.wire.bedrock.aws import sent as to_bedrock
from trunkline.core.types import Json, Request
from trunkline.wire.anthropic.messages import decode_messages
from trunkline.wire.codec import Incoming
from trunkline.wire.openai.chat import decode_chat
from trunkline.wire.openai.responses import decode_responses

MARK = {"cache_control": {"type": "ephemeral"}}


class Turn(NamedTuple):
    """Texts of one role, and whether each is marked."""

    role: str
    texts: Sequence[tuple[str, bool]]


# Texts in order, those of the system first; True: a mark.
Flat = list[str | bool]


def from_chat(turns: Sequence[Turn]) -> Request:
    """Of a client of chat completions."""
    messages = [{"role": turn.role, "content": _blocks(turn.texts, "text")} for turn in turns]
    (one,) = decode_chat(json.dumps({"messages": messages}).encode()).requests("r", "m", "")
    return one


def from_responses(turns: Sequence[Turn]) -> Request:
    """Of a client of the Responses API."""
    items = [{"role": turn.role, "content": _blocks(turn.texts, "input_text")} for turn in turns]
    (one,) = decode_responses(json.dumps({"input": items}).encode()).requests("r", "m", "")
    return one


def from_messages(turns: Sequence[Turn]) -> Request:
    """Of a client of Anthropic's API."""
    sent = [{"role": turn.role, "content": _blocks(turn.texts, "text")} for turn in turns]
    body: Json = {"max_tokens": 9, "messages": sent}
    if turns[0].role == "system":
        body["system"] = sent.pop(0)["content"]
    (one,) = decode_messages(Incoming(json.dumps(body).encode())).requests("r", "m", "")
    return one


def at_anthropic(request: Request) -> Flat:
    """As Anthropic gets it."""
    found: Flat = []
    for content in _contents(to_anthropic(request)):
        blocks = [{"text": content}] if isinstance(content, str) else content
        for block in blocks:
            found += [block["text"], True] if "cache_control" in block else [block["text"]]
    return found


def at_bedrock(request: Request) -> Flat:
    """As Bedrock gets it."""
    body, told = to_bedrock(request)
    assert not told
    return [
        True if "cachePoint" in block else block["text"]
        for content in _contents(body)
        for block in content
    ]


def _blocks(texts: Sequence[tuple[str, bool]], kind: str) -> list[Json]:
    return [{"type": kind, "text": text} | (MARK if marked else {}) for text, marked in texts]


def _contents(body: Json) -> list[Any]:
    return [body.get("system", []), *(turn["content"] for turn in body["messages"])]


def _wanted(turns: Sequence[Turn]) -> Flat:
    """Less blank texts, whose marks are those of the text before them."""
    found: Flat = []
    for turn in turns:
        for text, marked in turn.texts:
            if text.strip():
                found.append(text)
            if marked and found[-1] is not True:
                found.append(True)
    return found


@st.composite
def _turns(draw: st.DrawFn) -> list[Turn]:
    """A conversation with at most four marks, and in front of each turn a text that is shown."""
    roles = ["user", "assistant", "user"][: draw(st.sampled_from((1, 3)))]
    roles = [*(["system"] if draw(st.booleans()) else []), *roles]
    shown = st.text("ab\n é", min_size=1, max_size=4).filter(str.strip)
    some = st.lists(shown | st.sampled_from(("", " ", "\n")), max_size=3)
    texts = [[draw(shown), *draw(some)] for _ in roles]
    places = [(turn, part) for turn, parts in enumerate(texts) for part in range(len(parts))]
    marked = draw(st.sets(st.sampled_from(places), max_size=4))
    return [
        Turn(role, [(text, (turn, part) in marked) for part, text in enumerate(texts[turn])])
        for turn, role in enumerate(roles)
    ]


@pytest.mark.parametrize("speaks", [at_anthropic, at_bedrock])
@pytest.mark.parametrize("asks", [from_chat, from_messages])
@given(turns=_turns())
def test_marks_stay_behind_their_texts(
    asks: Callable[[Sequence[Turn]], Request],
    speaks: Callable[[Request], Flat],
    turns: list[Turn],
) -> None:
    assert speaks(asks(turns)) == _wanted(turns)


@pytest.mark.parametrize("speaks", [at_anthropic, at_bedrock])
@pytest.mark.parametrize("asks", [from_chat, from_messages, from_responses])
def test_a_question_behind_a_document_is_not_kept(
    asks: Callable[[Sequence[Turn]], Request], speaks: Callable[[Request], Flat]
) -> None:
    turns = [Turn("user", [("A long document.", True), ("A short question?", False)])]
    assert speaks(asks(turns)) == ["A long document.", True, "A short question?"]
