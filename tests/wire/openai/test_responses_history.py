"""What is stored of a response, and what a later request makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.openai.support import golden
from trunkline.core.errors import InvalidRequest
from trunkline.core.types import ChatInput, Delta, RowFinished, Timing, Tokenization, Usage
from trunkline.state.responses import StoredResponse
from trunkline.wire.codec import Answer, Incoming
from trunkline.wire.openai.responses import (
    INPUT_TOKENS,
    InputTokens,
    Recall,
    ResponsesAsk,
    decode_responses,
    listed_items,
)


def ask(**fields: Any) -> ResponsesAsk:
    return decode_responses(json.dumps(fields).encode())


def stored(asked: ResponsesAsk, name: str, text: str) -> StoredResponse:
    renderer = asked.renderer(Answer(f"resp_{name}", "m", 1, "fp"))
    renderer.take(0, [Delta("i", 0, text), RowFinished("i", 0, "stop")])
    renderer.finish(Usage(1, 1), Timing())
    found = renderer.stored()
    assert found is not None
    return found


def talk(asked: ResponsesAsk) -> list[tuple[str, Any]]:
    (one,) = asked.requests("resp_x", "m", "")
    assert isinstance(one.input, ChatInput)
    return [(message.role, message.content) for message in one.input.messages]


def test_a_conversation_goes_on_without_the_earlier_instructions() -> None:
    first = stored(ask(input="One?", instructions="Count."), "1", "1")
    asked = ask(input="Two?", previous_response_id="resp_1", instructions="Shout.")
    assert asked.recall == Recall("resp_1")
    second_ask = asked.recalled((first,), {})
    assert second_ask.recall is None
    second = stored(second_ask, "2", "2")
    assert second.previous == "resp_1"
    # Each response holds what was new in it.
    assert len(json.loads(second.input)) == 1
    third = ask(input="Three?", previous_response_id="resp_2").recalled((first, second), {})
    assert talk(third) == [
        ("user", "One?"),
        ("assistant", "1"),
        ("user", "Two?"),
        ("assistant", "2"),
        ("user", "Three?"),
    ]
    body = third.renderer(Answer("resp_3", "m", 1, "fp"))
    assert json.loads(body.finish(Usage(1, 1), Timing()))["previous_response_id"] == "resp_2"


def test_items_are_found_by_their_ids() -> None:
    first = stored(ask(input=[{"role": "user", "content": "One?"}]), "1", "1")
    question, answer = listed_items(first)
    assert set(first.items) == {question.id, answer.id}
    references = [{"type": "item_reference", "id": question.id}, {"id": answer.id}]
    asked = ask(input=[*references, {"role": "user", "content": "Two?"}])
    assert asked.recall == Recall(None, first.items)
    found = asked.recalled((), dict.fromkeys(first.items, first))
    assert talk(found) == [("user", "One?"), ("assistant", "1"), ("user", "Two?")]
    # What is stored then are the items, not the references.
    assert [one["type"] for one in json.loads(stored(found, "2", "x").input)] == ["message"] * 3


def test_an_item_that_its_response_lacks_is_refused() -> None:
    first = stored(ask(input="x"), "1", "1")
    asked = ask(input=[{"type": "item_reference", "id": "msg_gone"}])
    with pytest.raises(InvalidRequest) as caught:
        asked.recalled((), {"msg_gone": first})
    assert caught.value.param == "input[0]"


def test_nothing_is_kept_that_is_not_to_be_stored() -> None:
    renderer = ask(input="x", store=False).renderer(Answer("resp_1", "m", 1, "fp"))
    renderer.finish(Usage(1, 1), Timing())
    assert renderer.stored() is None
    unfinished = ask(input="x").renderer(Answer("resp_1", "m", 1, "fp"))
    assert unfinished.stored() is None


def test_stored_input_has_the_published_shape() -> None:
    theirs = golden("response_input_items.json")["data"][0]
    text = theirs["content"][0]["text"]
    (ours,) = json.loads(stored(ask(input=text), "1", "x").input)
    assert ours.pop("id").startswith("msg_")
    assert ours == {key: value for key, value in theirs.items() if key != "id"}
    result = {"type": "function_call_output", "call_id": "c", "output": "o"}
    (item,) = json.loads(stored(ask(input=[result]), "1", "x").input)
    assert item.pop("id")
    assert item == result


def test_counting_input_tokens() -> None:
    body = json.dumps({"model": "m", "input": "Tell me a joke."}).encode()
    lookup = INPUT_TOKENS.decode(Incoming(body))
    assert isinstance(lookup, InputTokens)
    assert INPUT_TOKENS.looks_up
    assert lookup.recall is None
    question = lookup.question("resp_1", "m", "")
    assert isinstance(question.input, ChatInput)
    ours = json.loads(lookup.render(Tokenization("", tuple(range(11)))))
    assert ours == golden("response_input_tokens.json")


def test_counting_with_a_history() -> None:
    first = stored(ask(input="One?"), "1", "1")
    body = json.dumps({"previous_response_id": "resp_1"}).encode()
    lookup = INPUT_TOKENS.decode(Incoming(body))
    assert isinstance(lookup, InputTokens)
    assert lookup.recall == Recall("resp_1")
    question = lookup.recalled((first,), {}).question("resp_2", "m", "")
    assert isinstance(question.input, ChatInput)
    assert [m.role for m in question.input.messages] == ["user", "assistant"]
