"""Turns of Converse: blocks, signed thoughts, cache points. Judged by botocore's service model."""

from __future__ import annotations

import pytest

from tests.wire.bedrock.aws import ADAPTIVE, CLAUDE, NOVA, sent
from tests.wire.speaking import WEATHER, asking, called, chat
from trunkline.core.errors import InvalidRequest
from trunkline.core.types import CachePoint, ChatInput, Message, TextPart, Thought
from trunkline.wire.anthropic.answer import SIGNATURE

SIGNED = Thought("Let me look.", signature="c2ln")
SEALED = Thought("", sealed="c2VhbGVk")
_LOOK = {"reasoningText": {"text": "Let me look.", "signature": "c2ln"}}
_OLD = "anthropic.claude-3-haiku-20240307-v1:0"


def _thinking(*thoughts: Thought, text: str | None = None) -> Message:
    call = called().tool_calls
    return Message("assistant", text, tool_calls=call, thoughts=thoughts, reasoning_content="Let.")


def test_signed_thoughts_go_back_before_all_else() -> None:
    turn = _thinking(SIGNED, SEALED, text="I look.")
    source = chat("x", turn, Message("tool", "21", tool_call_id="call_1"), tools=(WEATHER,))
    body, told = sent(asking(source))
    blocks = body["messages"][1]["content"]
    assert blocks[:3] == [
        {"reasoningContent": _LOOK},
        {"reasoningContent": {"redactedContent": "c2VhbGVk"}},
        {"text": "I look."},
    ]
    assert "toolUse" in blocks[3]
    assert told == ()


def test_what_is_sealed_is_base64_whatever_it_was() -> None:
    body, _ = sent(asking(chat("x", _thinking(Thought("", sealed="not base64!")), "y")))
    content = body["messages"][1]["content"][0]["reasoningContent"]
    assert content == {"redactedContent": "bm90IGJhc2U2NCE="}


@pytest.mark.parametrize(
    ("turn", "model"),
    [
        (_thinking(), CLAUDE),
        (_thinking(Thought("Let.")), CLAUDE),
        # That is our own mark.
        (_thinking(Thought("Let.", signature=SIGNATURE)), CLAUDE),
        (_thinking(SIGNED), NOVA),
        (_thinking(SIGNED), _OLD),
    ],
)
def test_thoughts_that_nobody_wants_back_are_told(turn: Message, model: str) -> None:
    body, told = sent(asking(chat("x", turn, "y")), model)
    assert "reasoningContent" not in str(body)
    assert told == ("reasoning_content",)


def test_texts_are_blocks_and_blank_ones_are_left_out() -> None:
    parts = (TextPart("a"), TextPart(" \n"), TextPart("b"))
    source = chat(
        Message("system", parts),
        Message("user", parts),
        called(),
        Message("tool", parts, tool_call_id="call_1"),
        Message("tool", " ", tool_call_id="call_2"),
        "  ",
        tools=(WEATHER,),
    )
    body, told = sent(asking(source))
    texts = [{"text": "a"}, {"text": "b"}]
    assert body["system"] == texts
    assert body["messages"][0]["content"] == texts
    results = [block["toolResult"]["content"] for block in body["messages"][2]["content"]]
    assert results == [texts, [{"text": "(empty)"}]]
    assert told == ()


@pytest.mark.parametrize(
    "turns", [("",), (" \n",), ("x", Message("assistant", "y"), ""), (Message("system", "x"),)]
)
def test_a_turn_without_text_is_refused(turns: tuple[str | Message, ...]) -> None:
    with pytest.raises(InvalidRequest, match="without text") as caught:
        sent(asking(chat(*turns)))
    assert caught.value.param == "messages"


def test_an_empty_turn_of_the_assistant_is_none() -> None:
    body, _ = sent(asking(chat("x", Message("assistant", " "), "y")))
    assert body["messages"] == [{"role": "user", "content": [{"text": "x"}, {"text": "y"}]}]


def test_names_and_system_messages_that_move_are_told() -> None:
    source = chat(Message("user", "x", name="Ann"), Message("system", "Be brief."))
    body, told = sent(asking(source))
    assert body["system"] == [{"text": "Be brief."}]
    assert told == ("messages.name", "messages.system")
    _, told = sent(asking(chat(Message("system", "x"), Message("developer", "y"), "z")))
    assert told == ()
    # Of a result it is the tool's, which its call has already.
    result = Message("tool", "21", tool_call_id="call_1", name="get_weather")
    _, told = sent(asking(chat("x", called(), result, tools=(WEATHER,))))
    assert told == ()


def marked(*points: CachePoint) -> ChatInput:
    """A call and its result, behind a system turn."""
    result = Message("tool", "21", tool_call_id="call_1")
    turns = (Message("system", "Long."), "x", called(), result)
    return chat(*turns, tools=(WEATHER,), cache_points=points)


def test_cache_points() -> None:
    source = marked(
        CachePoint("tools", ttl="1h"),
        CachePoint("message", 0, "1h"),
        CachePoint("message", 1, "5m"),
        CachePoint("message", 3),
    )
    body, told = sent(asking(source))
    hour, five = ({"cachePoint": {"type": "default", "ttl": ttl}} for ttl in ("1h", "5m"))
    assert body["toolConfig"]["tools"][1:] == [hour]
    assert body["system"] == [{"text": "Long."}, hour]
    assert body["messages"][0]["content"] == [{"text": "x"}, five]
    assert body["messages"][2]["content"][1:] == [{"cachePoint": {"type": "default"}}]
    assert told == ()


def test_cache_points_within_a_message() -> None:
    parts = tuple(map(TextPart, ("a", " ", "b", "c")))
    call = called()
    marks = [CachePoint("message", 0, part=n) for n in (0, 1, 2)]
    source = chat(
        Message("user", parts),
        Message("assistant", "d", tool_calls=call.tool_calls),
        Message("tool", parts, tool_call_id="call_1"),
        tools=(WEATHER,),
        cache_points=(*marks, CachePoint("message", 1, part=0), CachePoint("message", 2, part=0)),
    )
    body, told = sent(asking(source))
    point = {"cachePoint": {"type": "default"}}
    user, assistant, result = (turn["content"] for turn in body["messages"])
    assert user == [{"text": "a"}, point, {"text": "b"}, point, {"text": "c"}]
    assert assistant[:2] == [{"text": "d"}, point]
    assert result[1:] == [point]
    assert told == ()


def test_a_cache_point_behind_nothing_is_told() -> None:
    parts = (TextPart(" "), TextPart("a"))
    source = chat(Message("user", parts), cache_points=(CachePoint("message", 0, part=0),))
    body, told = sent(asking(source))
    assert body["messages"][0]["content"] == [{"text": "a"}]
    assert told == ("cache_control",)


def test_an_hour_does_not_follow_five_minutes() -> None:
    marks = (CachePoint("message", 0), CachePoint("message", 1, "1h"))
    body, told = sent(asking(chat("x", "y", cache_points=marks)))
    assert body["messages"][0]["content"][1::2] == [{"cachePoint": {"type": "default"}}] * 2
    assert told == ("cache_control.ttl",)


def test_an_hour_is_not_for_all() -> None:
    source = chat("x", cache_points=(CachePoint("message", 0, "1h"),))
    body, told = sent(asking(source), ADAPTIVE)
    assert body["messages"][0]["content"][1] == {"cachePoint": {"type": "default"}}
    assert told == ("cache_control.ttl",)


def test_nova_caches_behind_text_alone() -> None:
    source = marked(CachePoint("tools"), CachePoint("message", 0), CachePoint("message", 3))
    body, told = sent(asking(source), NOVA)
    assert body["system"][1:] == [{"cachePoint": {"type": "default"}}]
    assert "cachePoint" not in str(body["messages"])
    assert "cachePoint" not in str(body["toolConfig"])
    assert told == ("cache_control",)


def test_no_more_than_four_cache_points() -> None:
    marks = tuple(CachePoint("message", index) for index in range(5))
    body, told = sent(asking(chat(*"abcde", cache_points=marks)))
    blocks = body["messages"][0]["content"]
    assert [next(iter(block)) for block in blocks[:3]] == ["text", "text", "cachePoint"]
    assert str(blocks).count("cachePoint") == 4
    assert told == ("cache_control",)


@pytest.mark.parametrize("model", [_OLD, "meta.llama3-1-70b-instruct-v1:0", "openai.gpt-oss-20b"])
def test_models_that_do_not_cache(model: str) -> None:
    marks = (CachePoint("message", 0), CachePoint("tools"))
    body, told = sent(asking(chat("x", tools=(WEATHER,), cache_points=marks)), model)
    assert "cachePoint" not in str(body)
    assert told == ("cache_control",)
