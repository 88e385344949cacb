from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.wire.openai.support import GOLDEN, golden, same_shape
from trunkline.core.errors import EngineCrashed, InvalidRequest, QueueFull, Unsupported
from trunkline.core.types import (
    ChatInput,
    Completed,
    Delta,
    Event,
    Request,
    RowFinished,
    Timing,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from trunkline.wire.codec import Answer
from trunkline.wire.openai.responses import RESPONSES, ResponsesAsk, decode_responses
from trunkline.wire.openai.responses_answer import ResponseRenderer

# What the published examples leave out although the schema has it.
NEWER = frozenset(
    (
        *("background", "completed_at", "max_tool_calls", "top_logprobs", "sequence_number"),
        *("logprobs", "input_tokens_details", "name"),
    )
)
F = {"type": "function", "name": "f", "parameters": {"type": "object"}}
CUSTOM = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'},
}
SPACE = {
    "type": "namespace",
    "name": "ns",
    "description": "d",
    "tools": [{"type": "function", "name": "g"}],
}


def ask(**fields: Any) -> ResponsesAsk:
    return decode_responses(json.dumps({"input": "Hello!", **fields}).encode())


def request(**fields: Any) -> Request:
    (one,) = ask(**fields).requests("resp_1", "m", "team")
    return one


def chat(one: Request) -> ChatInput:
    assert isinstance(one.input, ChatInput)
    return one.input


def rendered(
    asked: ResponsesAsk, *taken: Event, reason: Any = "stop", usage: Usage | None = None
) -> tuple[ResponseRenderer, bytes]:
    renderer = asked.renderer(Answer("resp_abc", "gpt-5.4", 1741294021, "fp"))
    sent = b"".join(renderer.take(0, [event]) for event in taken)
    usage = usage or Usage(1, 1)
    sent += renderer.take(0, [RowFinished("i", 0, reason), Completed("i", usage, Timing())])
    return renderer, sent + renderer.finish(usage, Timing(1, 0.2, 0.3))


def whole(asked: ResponsesAsk, *taken: Event, **kwargs: Any) -> Any:
    return json.loads(rendered(asked, *taken, **kwargs)[1])


def parsed(sent: bytes) -> list[Any]:
    """The events, whose names and numbers are as they must be."""
    found = []
    for block in sent.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    assert [one.pop("sequence_number") for one in found] == list(range(len(found)))
    return found


def streamed(asked: ResponsesAsk, *taken: Event, **kwargs: Any) -> list[Any]:
    return parsed(rendered(asked, *taken, **kwargs)[1])


def say(text: str, **fields: Any) -> Delta:
    return Delta("i", 0, text, (1,), **fields)


def call(index: int, id_: str | None, name: str | None, arguments: str) -> Delta:
    return say("", tool_calls=(ToolCallDelta(index, id_, name, arguments),))


def without_newer(value: Any, theirs: Any) -> Any:
    """`value` less the ids, and less what is newer than the example `theirs`."""
    if isinstance(value, dict) and isinstance(theirs, dict):
        return {
            key: theirs.get(key)
            if key in ("id", "item_id")
            else without_newer(one, theirs.get(key))
            for key, one in value.items()
            if key in theirs or key not in NEWER
        }
    if isinstance(value, list) and isinstance(theirs, list) and len(value) == len(theirs):
        return [without_newer(one, other) for one, other in zip(value, theirs, strict=True)]
    return value


# decoding


def test_every_field_arrives() -> None:
    one = request(
        instructions="Be brief.",
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        seed=7,
        stop=["x"],
        top_logprobs=3,
        parallel_tool_calls=False,
        reasoning={"effort": "low"},
        metadata={"a": "b"},
        store=False,
        truncation="auto",
        service_tier="flex",
        context_management=[{"type": "compaction"}],
        prompt_cache_key="k",
        nobody_knows_this={"a": 1},
    )
    assert [(m.role, m.content) for m in chat(one).messages] == [
        ("system", "Be brief."),
        ("user", "Hello!"),
    ]
    sampling = one.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (9, 0.5, 0.9)
    assert (sampling.top_k, sampling.seed, sampling.logprobs) == (4, 7, 3)
    assert (one.stop, one.parallel_tool_calls, one.overflow) == (("x",), False, "cap")
    assert chat(one).template_kwargs == {"reasoning_effort": "low"}
    assert (one.id, one.tenant) == ("resp_1", "team")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, None),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0]"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"input": [{}] * 20_000}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
        ({"metadata": {"a": 5}}, "metadata[...]"),
        ({"truncation": "some"}, "truncation"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"tools": [F, F]}, "tools[1].name"),
        ({"tools": [F], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(fields: dict[str, Any], param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request(**fields)
    assert caught.value.param == (param or "input[0].content[0].text")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"n": 2}, "n"),
        ({"tools": [F], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0]",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        request(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"input": "x", "tools": ' + b'[{"a":' * 100_000 + b"1" + b"}]" * 100_000 + b"}",
        b'{"input": [{"role": "user", "content": "\\ud800"}]}',
    ],
)
def test_hostile_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_responses(body).requests("resp_1", "m", "")


def test_an_agents_history_becomes_turns() -> None:
    one = request(
        instructions="You are an agent.",
        input=[
            {"type": "message", "role": "developer", "content": "Rules."},
            {"role": "user", "content": [{"type": "input_text", "text": "Fix it."}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "A"}]},
            {
                "type": "message",
                "role": "assistant",
                "id": "msg_1",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Looking.", "annotations": []}],
            },
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "id": "fc"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "a\n"},
            {"type": "function_call_output", "call_id": "c1", "output": "ok"},
            {
                "type": "custom_tool_call_output",
                "call_id": "c2",
                "output": [{"type": "input_text", "text": "done"}],
            },
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"a": 1}},
            {"type": "reasoning", "summary": [], "encrypted_content": "somebody else's"},
            {"type": "function_call", "call_id": "c3", "name": "g", "namespace": "ns"},
            {"type": "function_call_output", "call_id": "c3", "output": ""},
            {"role": "user", "content": "Go on."},
        ],
    )
    seen = [
        (m.role, m.content, m.reasoning_content, [c["function"] for c in m.tool_calls or ()])
        for m in chat(one).messages
    ]
    assert seen == [
        ("system", "You are an agent.\n\nRules.", None, []),
        ("user", "Fix it.", None, []),
        (
            *("assistant", "Looking.", "A"),
            [
                {"name": "f", "arguments": "{}"},
                {"name": "apply_patch", "arguments": '{"input":"a\\n"}'},
            ],
        ),
        ("tool", "ok", None, []),
        ("tool", "done", None, []),
        ("assistant", None, None, [{"name": "ns__g", "arguments": "{}"}]),
        ("tool", "", None, []),
        ("user", "Go on.", None, []),
    ]
    assert [m.tool_call_id for m in chat(one).messages if m.role == "tool"] == ["c1", "c2", "c3"]


def test_tools_of_all_kinds() -> None:
    unknown = [{"type": "web_search"}, {"type": "local_shell"}, {"type": "of the future", "x": 1}]
    one = request(tools=[F, *unknown, CUSTOM, SPACE])
    shown = {tool["function"]["name"]: tool["function"] for tool in chat(one).tools}
    assert list(shown) == ["f", "apply_patch", "ns__g"]
    assert shown["apply_patch"]["parameters"]["required"] == ["input"]
    assert 'start: "x"' in json.dumps(shown["apply_patch"]["parameters"]).replace('\\"', '"')
    assert one.tool_choice == "auto"
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"name": "f"}]}
    one = request(tools=[F, CUSTOM], tool_choice=allowed)
    assert (one.tool_choice, len(chat(one).tools)) == ("required", 1)
    one = request(tools=[F, CUSTOM], tool_choice={"type": "custom", "name": "apply_patch"})
    assert (one.tool_choice, one.tool_name) == ("named", "apply_patch")
    # Nothing that can be called is left.
    assert request(tools=unknown).tool_choice == "none"


# rendering


def test_the_published_response() -> None:
    theirs = golden("response.json")
    asked = decode_responses(json.dumps(golden("response_request.json")).encode())
    text = theirs["output"][0]["content"][0]["text"]
    ours = whole(asked, say(text[:50]), say(text[50:]), usage=Usage(36, 87))
    assert ours["completed_at"] == ours["created_at"] + 2
    ours |= {"id": theirs["id"], "created_at": theirs["created_at"]}
    ours["completed_at"] = theirs["completed_at"]
    same_shape(without_newer(ours, theirs), theirs)


def test_the_published_function_call() -> None:
    theirs = golden("response_tools.json")
    asked = decode_responses(json.dumps(golden("response_tools_request.json")).encode())
    item = theirs["output"][0]
    first = call(0, item["call_id"], item["name"], "")
    rest = call(0, None, None, item["arguments"])
    ours = whole(asked, first, rest, reason="tool_calls", usage=Usage(291, 23))
    ours["completed_at"] = theirs["completed_at"]
    # There, schemas are strict when nothing is said. Here, what a schema asks may be more than can
    # be enforced, and a request that works without is not refused for it.
    assert ours["tools"][0].pop("strict") is False
    assert theirs["tools"][0].pop("strict") is True
    same_shape(without_newer(ours, theirs), theirs)


def test_the_published_reasoning_request() -> None:
    theirs = golden("response_reasoning.json")
    asked = decode_responses(json.dumps(golden("response_reasoning_request.json")).encode())
    ours = whole(asked, say("The classic tongue twister..."), usage=Usage(81, 1035, 0, 832))
    ours |= {"model": theirs["model"], "created_at": theirs["created_at"]}
    ours["completed_at"] = theirs["completed_at"]
    same_shape(without_newer(ours, theirs), theirs)


def test_the_published_stream() -> None:
    theirs = [
        json.loads(data)
        for data in re.findall(
            r"^data: (.*)$", (GOLDEN / "response_stream.txt").read_text(), re.MULTILINE
        )
    ]
    asked = decode_responses(json.dumps(golden("response_stream_request.json")).encode())
    ours = streamed(
        asked, say("Hi"), say(" there! How can I assist you today?"), usage=Usage(37, 11)
    )
    # "..." in the example: further deltas.
    assert ours.pop(5)["type"] == "response.output_text.delta"
    assert [one["type"] for one in ours] == [one["type"] for one in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        if "response" in mine:
            mine["response"]["created_at"] = other["response"]["created_at"]
        same_shape(without_newer(mine, other), other)


def keys_of_published_events() -> dict[str, set[str]]:
    return {kind: set(event) for kind, event in golden("response_events.json").items()}


def test_reasoning_then_text_then_calls() -> None:
    asked = ask(stream=True, tools=[F, CUSTOM, SPACE])
    shown = streamed(
        asked,
        say("", reasoning="Hm"),
        say("Well.", reasoning="m."),
        say("", tool_calls=(ToolCallDelta(0, "c1", "f", ""), ToolCallDelta(0, None, None, "{"))),
        call(0, None, None, "}"),
        call(1, "c2", "apply_patch", '{"input":'),
        call(1, None, None, '"a\\nb"}'),
        call(2, "c3", "ns__g", "{}"),
        reason="tool_calls",
    )
    assert [one["type"].removeprefix("response.") for one in shown] == [
        *("created", "in_progress"),
        *("output_item.added", "content_part.added", "reasoning_text.delta"),
        *("reasoning_text.delta", "reasoning_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done"),
        *("output_item.added", "custom_tool_call_input.delta", "custom_tool_call_input.done"),
        "output_item.done",
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done"),
        "output_item.done",
        "completed",
    ]
    for event in shown:
        published = keys_of_published_events().get(event["type"])
        if published is not None:
            assert set(event) == published - {"sequence_number"}, event["type"]
    thought, said, first, second, third = shown[-1]["response"]["output"]
    assert thought["content"] == [{"text": "Hmm.", "type": "reasoning_text"}]
    assert said["content"][0]["text"] == "Well."
    assert (first["call_id"], first["arguments"]) == ("c1", "{}")
    assert (second["type"], second["name"], second["input"]) == (
        "custom_tool_call",
        "apply_patch",
        "a\nb",
    )
    assert (third["name"], third["namespace"]) == ("g", "ns")
    done = [one["item"] for one in shown if one["type"] == "response.output_item.done"]
    assert done == shown[-1]["response"]["output"]
    assert all(item["status"] == "completed" for item in done)
    indices = [one["output_index"] for one in shown if "output_index" in one]
    assert indices == sorted(indices)


def test_a_summary_that_is_asked_for_is_the_reasoning() -> None:
    shown = streamed(
        ask(stream=True, reasoning={"summary": "auto"}), say("", reasoning="Hm."), say("4")
    )
    kinds = [one["type"].removeprefix("response.") for one in shown[2:8]]
    assert kinds == [
        *("output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
    ]
    for event in shown[3:7]:
        published = keys_of_published_events()[event["type"]]
        assert set(event) == published - {"sequence_number"}
    item = shown[7]["item"]
    assert item["summary"] == [{"text": "Hm.", "type": "summary_text"}]
    assert "content" not in item


def test_reasoning_comes_back_without_being_shown() -> None:
    body = whole(ask(include=["reasoning.encrypted_content"], store=False), say("4", reasoning="é"))
    item = body["output"][0]
    sent = {"type": "reasoning", "summary": [], "encrypted_content": item["encrypted_content"]}
    (_, turn, _) = chat(
        request(input=[{"role": "user", "content": "x"}, sent, {"role": "user", "content": "y"}])
    ).messages
    assert (turn.role, turn.reasoning_content) == ("assistant", "é")


@pytest.mark.parametrize("stream", [False, True])
def test_cut_by_length_is_incomplete(stream: bool) -> None:
    asked = ask(stream=stream)
    if stream:
        last = streamed(asked, say("So"), reason="length")[-1]
        assert last["type"] == "response.incomplete"
        body = last["response"]
    else:
        body = whole(asked, say("So"), reason="length")
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["completed_at"] is None
    assert body["output"][0]["status"] == "incomplete"


def test_nothing_said_is_an_empty_message() -> None:
    assert whole(ask())["output"][0]["content"][0]["text"] == ""
    kinds = [one["type"] for one in streamed(ask(stream=True))]
    assert kinds[2] == "response.output_item.added"
    assert kinds[-1] == "response.completed"


@pytest.mark.parametrize("arguments", ["", "{}", '{"city":"Tōkyō 🚂\\u2028\\n\\"x\\""}'])
def test_a_call_split_at_every_byte_adds_up(arguments: str) -> None:
    pieces = [call(0, None, None, one) for one in arguments]
    shown = streamed(ask(stream=True, tools=[F]), call(0, "c", "f", ""), *pieces)
    deltas = [o["delta"] for o in shown if o["type"] == "response.function_call_arguments.delta"]
    assert "".join(deltas) == arguments
    assert shown[-1]["response"]["output"][0]["arguments"] == arguments


def test_text_at_unicode_borders_adds_up() -> None:
    text = "naïve 東京 🚂🚃 e\u0301\n\ndata: x\u2028"
    shown = streamed(ask(stream=True), *[say(one) for one in text])
    deltas = [one["delta"] for one in shown if one["type"] == "response.output_text.delta"]
    assert "".join(deltas) == text == shown[-1]["response"]["output"][0]["content"][0]["text"]


def test_logprobs_where_they_are_asked_for() -> None:
    one = TokenLogprob("a", b"a", 1, -0.5, (("a", b"a", 1, -0.5), ("b", b"b", 2, float("-inf"))))
    asked = ask(stream=True, top_logprobs=2, include=["message.output_text.logprobs"])
    shown = streamed(asked, say("a", logprobs=(one,)))
    delta = next(o for o in shown if o["type"] == "response.output_text.delta")
    assert [top["logprob"] for top in delta["logprobs"][0]["top_logprobs"]] == [-0.5, -9999.0]
    part = shown[-1]["response"]["output"][0]["content"][0]
    assert part["logprobs"] == delta["logprobs"]


def test_a_custom_tool_gets_what_the_model_wrote_in_any_case() -> None:
    body = whole(ask(tools=[CUSTOM]), call(0, "c", "apply_patch", "*** Begin"))
    assert body["output"][0]["input"] == "*** Begin"


def test_a_failure_after_the_first_byte_ends_the_response() -> None:
    renderer = ask(stream=True).renderer(Answer("resp_abc", "m", 1, "fp"))
    sent = renderer.take(0, [say("So")])
    shown = parsed(sent + renderer.fail(EngineCrashed("it died")))
    last = shown[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {"code": "server_error", "message": "it died"}
    assert set(last["response"]["error"]) == set(
        golden("response_events.json")["response.failed"]["response"]["error"]
    )
    assert last["response"]["output"][0]["status"] == "incomplete"
    assert renderer.stored() is None


def test_an_error_without_a_response_has_the_published_shape() -> None:
    name, data = RESPONSES.stream_error(QueueFull("full")).decode().strip().split("\n")
    assert name == "event: error"
    event = json.loads(data.removeprefix("data: "))
    assert set(event) == set(golden("response_events.json")["error"])
    assert (event["code"], event["message"]) == ("rate_limit_exceeded", "full")
