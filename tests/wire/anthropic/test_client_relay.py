"""What is passed on of bodies with thoughts that nobody signed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.wire.anthropic.sending import CLAUDE, SPEAKER, named
from tests.wire.client_support import ALL, raw
from trunkline.core.types import (
    Json,
)
from trunkline.wire.anthropic.answer import SIGNATURE
from trunkline.wire.client import Terms

HOSTED = msgspec.structs.replace(named("claude-sonnet-4-5"), hosted=True)


def relayed(on: Terms = HOSTED, **fields: Any) -> tuple[Json, tuple[str, ...]]:
    body = json.dumps({"model": "m", "max_tokens": 9, **fields}).encode()
    outgoing = SPEAKER.patch(raw(SPEAKER, body), on)
    return json.loads(outgoing.body), outgoing.dropped


OURS: Json = {"type": "thinking", "thinking": "Hm.", "signature": SIGNATURE}


THEIRS = {"type": "thinking", "thinking": "Hm.", "signature": "s"}


USE = {"type": "tool_use", "id": "c", "name": "f", "input": {}}


RESULT = {"type": "tool_result", "tool_use_id": "c", "content": "r"}


def test_thoughts_that_nobody_signed_do_not_reach_who_looks() -> None:
    turns: list[Json] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [OURS, {"type": "text", "text": SIGNATURE}]},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": [OURS]},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": [THEIRS, {"type": "text", "text": "d"}]},
    ]
    body, told = relayed(messages=turns)
    assert told == ("messages.thinking",)
    kept = {"role": "assistant", "content": turns[1]["content"][1:]}
    assert body["messages"] == [turns[0], kept, turns[2], turns[4], turns[5]]
    for on in (ALL, msgspec.structs.replace(ALL, model="claude-alias"), named("open")):
        body, told = relayed(on, messages=turns)
        assert (body["messages"], told) == (turns, ())


def test_what_has_no_such_thought_passes_byte_for_byte() -> None:
    for messages in (
        b'[{"role": "user", "content": "dHJ1bmtsaW5l"}]',
        b'[ {"content":[{"type":"thinking", "thinking":"", "signature":"s"}], "role":"assistant"}]',
    ):
        asked = raw(SPEAKER, b'{"model":"m","messages":' + messages + b"}")
        outgoing = SPEAKER.patch(asked, HOSTED)
        assert outgoing.body == b'{"model":"claude-sonnet-4-5","messages":' + messages + b"}"
        assert outgoing.dropped == ()


def test_a_body_that_makes_no_sense_is_the_servers_to_refuse() -> None:
    for messages in ([5, {"content": SIGNATURE}], [{"role": "user", "content": [SIGNATURE]}], "x"):
        assert relayed(messages=messages)[0]["messages"] == messages


def test_thinking_is_turned_off_where_the_thought_of_a_call_is_gone() -> None:
    start = [{"role": "user", "content": "a"}]
    on = {"type": "enabled", "budget_tokens": 1024}
    ours = [
        *start,
        {"role": "assistant", "content": [OURS, USE]},
        {"role": "user", "content": [RESULT]},
    ]
    edits = {"edits": [{"type": "clear_thinking_20251015"}]}
    body, told = relayed(messages=ours, thinking=on, context_management=edits)
    assert body["thinking"] == {"type": "disabled"}
    assert "context_management" not in body
    assert body["messages"][1]["content"] == [USE]
    assert told == ("messages.thinking", "thinking")
    two = {"edits": [*edits["edits"], {"type": "clear_tool_uses_20250919"}]}
    body, _ = relayed(messages=ours, thinking=on, context_management=two)
    assert body["context_management"] == {"edits": two["edits"][1:]}
    # It decides for itself; it began with a thought of its own; the turn is over.
    theirs = [*start, {"role": "assistant", "content": [THEIRS, USE]}, ours[2], *ours[1:]]
    over = [*ours, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    for messages, thinking in ((ours, {"type": "adaptive"}), (theirs, on), (over, on)):
        body, told = relayed(messages=messages, thinking=thinking)
        assert (body["thinking"], told) == (thinking, ("messages.thinking",))


SAID: Json = {"type": "text", "text": "b"}
ON: Json = {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize(
    ("turns", "thinks", "left"),
    [
        # Its author shows no thoughts, or has none.
        ([[SAID, USE], [RESULT]], False, None),
        ([[USE], [RESULT, SAID]], False, None),
        ([[USE], [RESULT], [SAID]], False, None),
        ([[SAID], [USE], [RESULT]], False, None),
        ([[USE], [RESULT], [USE], [RESULT]], False, None),
        # What comes after results is of the same turn, whoever says it.
        ([[THEIRS, USE], [RESULT], [SAID, USE], [RESULT]], True, None),
        ([[{"type": "redacted_thinking", "data": "x"}, USE], [RESULT]], True, None),
        ([[USE], [RESULT], [THEIRS, USE], [RESULT]], False, [[USE], [RESULT], [USE], [RESULT]]),
        # The turn is over, or the model's own.
        ([[USE], [RESULT], [SAID], [SAID]], True, None),
        ([[USE]], True, None),
        ([[SAID], [{**SAID, "text": '"tool_result"'}]], True, None),
    ],
)
def test_a_turn_without_a_thought_ends_without_thinking(
    turns: list[list[Json]], thinks: bool, left: list[list[Json]] | None
) -> None:
    def told(blocks: list[list[Json]]) -> list[Json]:
        """Results are the user's; what follows a result alone is, too, where it is `SAID`."""
        found: list[Json] = [{"role": "user", "content": "a"}]
        for place, block in enumerate(blocks):
            users = block[0] is RESULT or (place == len(blocks) - 1 and block[0]["type"] == "text")
            found.append({"role": "user" if users else "assistant", "content": block})
        return found

    messages = told(turns)
    for model in ("claude-sonnet-4-5", "claude-opus-4-6", "my-claude"):
        on = msgspec.structs.replace(named(model), hosted=True)
        body, left_out = relayed(on, messages=messages, thinking=ON)
        assert body["thinking"] == (ON if thinks else {"type": "disabled"})
        assert body["messages"] == (messages if left is None else told(left))
        assert ("thinking" in left_out) is not thinks
        assert ("messages.thinking" in left_out) is (left is not None)


def test_who_does_not_look_for_a_thought_goes_on_thinking() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [SAID, USE]},
        {"role": "user", "content": [RESULT]},
    ]
    for model, thinking in (
        ("claude-opus-4-8", ON),
        ("deepseek-chat", ON),
        ("claude-opus-4-6", {"type": "adaptive"}),
        ("claude-sonnet-4-5", {"type": "disabled"}),
    ):
        on = msgspec.structs.replace(named(model), hosted=True)
        sent = {"model": model, "messages": messages, "thinking": thinking}
        outgoing = SPEAKER.patch(raw(SPEAKER, json.dumps(sent, indent=1).encode()), on)
        assert (json.loads(outgoing.body), outgoing.dropped) == (sent, ())
    # Engines of open models do not look either.
    open_model = named("claude-sonnet-4-5")
    open_model = msgspec.structs.replace(open_model, features=ALL.features)
    assert relayed(open_model, messages=messages, thinking=ON)[1] == ()


def test_the_short_way_is_for_servers_that_do_not_look() -> None:
    assert SPEAKER.passes(CLAUDE)
    assert SPEAKER.passes(ALL)
    assert not SPEAKER.passes(HOSTED)
    assert not SPEAKER.passes(named("claude-opus-5"))
    assert not SPEAKER.passes(msgspec.structs.replace(CLAUDE, extra_body={"a": 1}))
