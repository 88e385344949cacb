"""What coding agents send, in full: Messages as Claude Code speaks it, Responses as Codex does.

The bodies are made here after the official clients' types (anthropic 2.11, openai 3.52) and hold
what agents are known to add: 70 KB of instructions, dozens of tools with deep schemas, tools that
run at a provider or are of a type that nobody knows, betas' fields, and a history with everything
that came back. Events of each stream are held against the clients' types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic.types.beta import BetaRawMessageStreamEvent
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from tests.support.server import Server, serve, write_rules

MANUAL = "".join(
    f"Rule {number}: stand clear of the doors; mind the gap.\n" for number in range(1500)
)
READ = (
    '<tool_call>\n{"name": "Read", "arguments": '
    '{"file_path": "/srv/points.py", "limit": 40}}\n</tool_call>'
)
EDIT = (
    '<tool_call>\n{"name": "mcp__signals__set", "arguments": {"steps": [{"at": "東京", "then": '
    '{"aspect": "green"}}]}}\n</tool_call>'
)
PATCH = "*** Begin Patch\n*** Update File: points.py\n+é 🚂\n*** End Patch\n"
THOUGHT = "<think>\nI need to see the file.\n</think>\n\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("agents")
    patch = json.dumps({"name": "apply_patch", "arguments": {"input": PATCH}}, ensure_ascii=False)
    rules = write_rules(
        directory / "rules.json",
        {"contains": "Exit code 1", "text": "The points are fixed."},
        {"contains": "def points():", "text": f"{THOUGHT}Now both.\n{EDIT}\n{READ}"},
        {"contains": "the points at Aylesbury", "text": f"{THOUGHT}I'll read it.\n{READ}"},
        {"contains": "a patch", "text": f"<tool_call>\n{patch}\n</tool_call>"},
        {"contains": "<title>", "text": '{"title": "Points"}'},
        default={"text": "Hello from the rails."},
        context=400_000,
    )
    parsers = ("--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
    names = ("--served-model-name", "claude-opus-5", "--served-model-name", "gpt-5.5-codex")
    with serve(directory, str(rules), "--executor", "scripted", *parsers, *names) as running:
        yield running


def deep_schema(levels: int) -> dict[str, Any]:
    """A schema as MCP servers publish them: nested, with references and alternatives."""
    schema: dict[str, Any] = {"$ref": "#/$defs/aspect"}
    for level in range(levels):
        schema = {
            "type": "object",
            "description": f"Level {level}.",
            "properties": {
                "then": schema,
                "at": {"anyOf": [{"type": "string", "pattern": "^.+$"}, {"type": "null"}]},
                "tags": {"type": ["array", "null"], "items": {"enum": ["a", 1, None, True]}},
                "more": {"type": "object", "additionalProperties": {"type": "number"}},
            },
            "required": ["then"],
            "additionalProperties": False,
        }
    aspect = {"oneOf": [{"const": "green"}, {"const": "red"}, {"type": "object"}]}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"steps": {"type": "array", "items": schema, "minItems": 1}},
        "$defs": {"aspect": aspect},
    }


READ_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "file_path": {"type": "string", "description": "Absolute."},
        "limit": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991},
    },
    "required": ["file_path"],
    "additionalProperties": False,
}


# Messages ------------------------------------------------------------------------------------


def claude_code(messages: list[Any], **more: Any) -> dict[str, Any]:
    """A turn of the main loop."""
    tools: list[dict[str, Any]] = [
        {"name": f"Tool{n}", "description": "Does. " * 60, "input_schema": deep_schema(n % 6)}
        for n in range(30)
    ]
    tools += [
        {"name": "Read", "description": "Reads a file.", "input_schema": READ_SCHEMA},
        {
            "name": "mcp__signals__set",
            "description": "Sets signals.",
            "input_schema": deep_schema(8),
            "defer_loading": True,
            "eager_input_streaming": True,
        },
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
        {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"},
        {"type": "a_tool_of_next_year", "name": "levitate", "cache_control": {"type": "ephemeral"}},
    ]
    ephemeral = {"type": "ephemeral", "ttl": "1h", "scope": "global"}
    return {
        "model": "claude-opus-5",
        "max_tokens": 32_000,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=3.1; cch=00000;"},
            {"type": "text", "text": "You are a coding agent.", "cache_control": ephemeral},
            {"type": "text", "text": MANUAL, "cache_control": ephemeral},
        ],
        "messages": messages,
        "tools": tools,
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": "xhigh"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": json.dumps({"device_id": "d", "session_id": "s"})},
        "temperature": 1,
        "stream": True,
        **more,
    }


CLAUDE_HEADERS = {
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "claude-code-20250219,oauth-2025-04-20,interleaved-thinking-2025-05-14,"
    "context-management-2025-06-27,prompt-caching-scope-2026-01-05,effort-2025-11-24",
    "anthropic-dangerous-direct-browser-access": "true",
    "authorization": "Bearer none",
    "user-agent": "claude-cli/3.1.0 (external, cli)",
    "x-app": "cli",
    "x-stainless-lang": "js",
    "x-stainless-retry-count": "0",
    "x-stainless-timeout": "600",
    "accept": "application/json",
    "accept-encoding": "gzip, deflate, br, zstd",
}
_event = TypeAdapter[Any](BetaRawMessageStreamEvent)


def said(message: dict[str, Any]) -> list[Any]:
    """A streamed message's content, put together from its events; every event is checked."""
    blocks: list[dict[str, Any]] = []
    for event in message["events"]:
        if event["type"] != "ping":
            _event.validate_python(event)
        if event["type"] == "content_block_start":
            blocks.append({**event["content_block"], "json": ""})
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            for field in ("text", "thinking", "signature"):
                if field in delta:
                    blocks[event["index"]][field] += delta[field]
            blocks[event["index"]]["json"] += delta.get("partial_json", "")
    for block in blocks:
        partial = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(partial or "{}")
    return blocks


def send(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    """The events of a call, and how it ended."""
    url = f"{server.url}/v1/messages?beta=true"
    answer = httpx.post(url, json=body, headers=CLAUDE_HEADERS, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["request-id"]
    events = []
    for block in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert events[-1]["type"] == "message_stop"
    (ended,) = [event for event in events if event["type"] == "message_delta"]
    return {"events": events, "stop": ended["delta"]["stop_reason"], "usage": ended["usage"]}


def test_claude_code(server: Server) -> None:
    reminder = "<system-reminder>\nToday is Saturday.\n</system-reminder>"
    ephemeral = {"cache_control": {"type": "ephemeral"}}
    messages: list[Any] = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": reminder},
                {"type": "text", "text": "Fix the points at Aylesbury.", **ephemeral},
            ],
        },
    ]
    assert len(json.dumps(claude_code(messages))) > 120_000
    first = send(server, claude_code(messages))
    thinking, text, read = said(first)
    assert (thinking["type"], thinking["thinking"].strip()) == (
        "thinking",
        "I need to see the file.",
    )
    assert thinking["signature"]
    assert text["text"].strip() == "I'll read it."
    assert (read["type"], read["name"]) == ("tool_use", "Read")
    assert read["input"] == {"file_path": "/srv/points.py", "limit": 40}
    assert first["stop"] == "tool_use"

    # All of it goes back, with the result, and with what agents put in between.
    result = {"type": "tool_result", "tool_use_id": read["id"], "content": "1\tdef points():"}
    messages += [
        {"role": "assistant", "content": [thinking, text, read]},
        {"role": "user", "content": [{**result, **ephemeral}]},
        {"role": "system", "content": "The user's budget is low."},
    ]
    second = send(server, claude_code(messages))
    blocks = said(second)
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use", "tool_use"]
    assert blocks[2]["name"] == "mcp__signals__set"
    assert blocks[2]["input"] == {"steps": [{"at": "東京", "then": {"aspect": "green"}}]}
    # The prompt so far came from the cache.
    assert second["usage"]["cache_read_input_tokens"] > 70_000

    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "is_error": True, "content": said_so}
        for block, said_so in zip(
            blocks[2:],
            ("Exit code 1", [{"type": "text", "text": "no"}, {"type": "text", "text": "file"}]),
            strict=True,
        )
    ]
    messages += [
        {"role": "assistant", "content": blocks},
        {"role": "user", "content": [*results, {"type": "text", "text": reminder}]},
    ]
    third = send(server, claude_code(messages))
    assert said(third)[-1]["text"] == "The points are fixed."
    assert third["stop"] == "end_turn"

    counting = {"model", "system", "messages", "tools", "thinking", "context_management"}
    body = {name: value for name, value in claude_code(messages).items() if name in counting}
    url = f"{server.url}/v1/messages/count_tokens?beta=true"
    counted = httpx.post(url, json=body, headers=CLAUDE_HEADERS, timeout=60)
    usage = third["usage"]
    total = sum(usage[f"{name}input_tokens"] for name in ("", "cache_creation_", "cache_read_"))
    assert counted.json() == {"input_tokens": total}


def test_claude_codes_small_requests(server: Server) -> None:
    # Is anybody there, and is there quota?
    assert httpx.head(server.url, headers=CLAUDE_HEADERS).status_code == 200
    probe = {"role": "user", "content": "quota"}
    body = {"model": "claude-opus-5", "max_tokens": 1, "messages": [probe], "metadata": {}}
    answer = server.post("/v1/messages?beta=true", body, **CLAUDE_HEADERS)
    assert answer.json()["usage"]["output_tokens"] == 1
    # A title, by a schema, with no tools and no thinking.
    title = {
        "type": "object",
        "properties": {"title": {"type": "string"}},
        "required": ["title"],
        "additionalProperties": False,
    }
    body |= {
        "max_tokens": 512,
        "messages": [{"role": "user", "content": "<title>"}],
        "tools": [],
        "thinking": {"type": "disabled"},
        "output_config": {"format": {"type": "json_schema", "schema": title}},
        "temperature": 1,
    }
    answer = server.post("/v1/messages?beta=true", body, **CLAUDE_HEADERS)
    assert json.loads(answer.json()["content"][0]["text"]) == {"title": "Points"}
    # What it asks of a web search, which nobody here can run, is answered without.
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    body = claude_code([{"role": "user", "content": "Search."}], tools=[search], stream=False)
    answer = server.post("/v1/messages?beta=true", body, **CLAUDE_HEADERS)
    assert answer.json()["content"][-1]["text"] == "Hello from the rails."


def test_a_conversation_that_grew_too_long(caboose: Server) -> None:
    # By these words an agent knows that it is to make the conversation shorter, and by how much.
    body = claude_code([{"role": "user", "content": "Go on."}], model="caboose", tools=[])
    answer = caboose.post("/v1/messages?beta=true", body, **CLAUDE_HEADERS)
    told = answer.json()["error"]
    assert (answer.status_code, told["type"]) == (400, "invalid_request_error")
    found = re.fullmatch(r"prompt is too long: (\d+) tokens > (\d+) maximum", told["message"])
    assert found is not None, told
    assert int(found[1]) > int(found[2]) == 4096
    asked = codex([message("user", "Go on.")], model="caboose")
    refused = caboose.post("/v1/responses", asked, **CODEX_HEADERS)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"


def test_the_official_client_reads_an_agents_stream(server: Server) -> None:
    body = claude_code([{"role": "user", "content": "Fix the points at Aylesbury."}])
    del body["stream"], body["temperature"]
    with (
        anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client,
        client.beta.messages.stream(**body, betas=["context-management-2025-06-27"]) as stream,
    ):
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    assert {"thinking", "text", "input_json"} <= kinds
    call = final.content[-1]
    assert call.type == "tool_use"
    assert call.input == {"file_path": "/srv/points.py", "limit": 40}


# Responses -----------------------------------------------------------------------------------


NEXT_YEARS = {"type": "a tool of next year", "parameters": [1, {"x": None}]}


def codex(items: list[Any], **more: Any) -> dict[str, Any]:
    """A turn."""
    functions: list[dict[str, Any]] = [
        {
            "type": "function",
            "name": f"mcp__server__tool{n}",
            "description": "Does. " * 60,
            "strict": False,
            "parameters": deep_schema(n % 6),
        }
        for n in range(20)
    ]
    read = {"type": "function", "name": "Read", "strict": False, "parameters": READ_SCHEMA}
    signals = {**read, "name": "set", "parameters": deep_schema(8), "defer_loading": True}
    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch" /.+/s'}
    return {
        "model": "gpt-5.5-codex",
        "instructions": MANUAL,
        "input": items,
        "tools": [
            *functions,
            read,
            {"type": "custom", "name": "apply_patch", "description": "Edits.", "format": grammar},
            {"type": "local_shell"},
            {"type": "shell", "environment": {"type": "local"}},
            {"type": "apply_patch"},
            {"type": "web_search", "external_web_access": False, "search_content_types": ["text"]},
            {"type": "image_generation", "output_format": "png"},
            {"type": "tool_search", "execution": "client", "description": "d", "parameters": {}},
            {"type": "namespace", "name": "mcp__signals", "description": "d", "tools": [signals]},
            NEXT_YEARS,
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "xhigh", "summary": "auto", "context": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199b1c2-7b1f-7e21-8b06-2a7d1c0a9f00",
        "service_tier": "priority",
        "text": {"verbosity": "low"},
        "client_metadata": {"x-codex-installation-id": "1"},
        **more,
    }


CODEX_HEADERS = {
    "authorization": "Bearer none",
    "accept": "text/event-stream",
    "openai-beta": "responses=experimental",
    "originator": "codex_cli_rs",
    "user-agent": "codex_cli_rs/0.130.0 (Debian 12; x86_64) xterm",
    "session_id": "0199b1c2-7b1f-7e21-8b06-2a7d1c0a9f00",
    "conversation_id": "0199b1c2-7b1f-7e21-8b06-2a7d1c0a9f00",
    "x-codex-turn-metadata": '{"turn_id": "1"}',
}
_response_event = TypeAdapter[Any](ResponseStreamEvent)


def message(role: str, text: str) -> dict[str, Any]:
    """One item."""
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def respond(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    """The response of a stream, all of whose events are checked."""
    answer = httpx.post(f"{server.url}/v1/responses", json=body, headers=CODEX_HEADERS, timeout=60)
    assert answer.status_code == 200, answer.text
    events = []
    for block in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
        known = json.loads(data.removeprefix("data: "))
        if "response" in known:
            # The one that was sent and that the client's types do not know.
            known["response"]["tools"].remove(NEXT_YEARS)
        _response_event.validate_python(known)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
    response: dict[str, Any] = events[-1]["response"]
    # Codex collects the items as they are done, and never looks at `output`.
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == response["output"]
    return response


def test_codex(server: Server) -> None:
    items = [
        message("developer", "<permissions instructions>\nSandbox.\n</permissions instructions>"),
        message("user", "<environment_context>\n  <cwd>/srv</cwd>\n</environment_context>"),
        message("user", "Fix the points at Aylesbury."),
    ]
    assert len(json.dumps(codex(items))) > 100_000
    first = respond(server, codex(items))
    thought, text, call = first["output"]
    assert thought["type"] == "reasoning"
    assert thought["summary"][0]["text"].strip() == "I need to see the file."
    assert thought["encrypted_content"]
    assert text["content"][0]["text"].strip() == "I'll read it."
    assert (call["type"], call["name"]) == ("function_call", "Read")
    assert json.loads(call["arguments"]) == {"file_path": "/srv/points.py", "limit": 40}
    usage = first["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]

    # As Codex keeps its history: without ids, the reasoning as a cipher alone.
    hidden = {**thought, "content": None}
    del hidden["id"]
    items += [
        hidden,
        message("assistant", text["content"][0]["text"]),
        {name: call[name] for name in ("type", "name", "arguments", "call_id")},
        {
            "type": "function_call_output",
            "call_id": call["call_id"],
            "output": [{"type": "input_text", "text": "1\tdef points():"}],
        },
    ]
    second = respond(server, codex(items))
    assert [one["type"] for one in second["output"]] == [
        *("reasoning", "message", "function_call", "function_call"),
    ]
    assert second["usage"]["input_tokens_details"]["cached_tokens"] > 70_000

    # What other models' tools left behind is passed over.
    items += [
        *second["output"],
        {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "points"},
        },
        {
            "type": "local_shell_call",
            "call_id": "c1",
            "status": "completed",
            "action": {"type": "exec", "command": ["ls"], "env": {}},
        },
        {"type": "compaction", "encrypted_content": "gAAAA"},
        {"type": "ghost_snapshot", "ghost_commit": {"id": "1"}},
        *(
            {"type": "function_call_output", "call_id": one["call_id"], "output": "Exit code 1"}
            for one in second["output"][2:]
        ),
    ]
    third = respond(server, codex(items))
    assert third["output"][-1]["content"][0]["text"] == "The points are fixed."


def test_codexs_patch_comes_as_text(server: Server) -> None:
    body = codex([message("user", "a patch")])
    more = {"client_metadata": body.pop("client_metadata")}
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
        client.responses.create(**body, extra_body=more, extra_headers=CODEX_HEADERS) as stream,
    ):
        events = list(stream)
    pieces = [e.delta for e in events if e.type == "response.custom_tool_call_input.delta"]
    assert "".join(pieces) == PATCH
    assert len(pieces) > 3
    (call,) = events[-1].response.output
    assert (call.type, call.name, call.input) == ("custom_tool_call", "apply_patch", PATCH)


def test_a_tool_in_a_namespace_keeps_its_name(server: Server) -> None:
    # The model sees one name; the client gets both parts back.
    response = respond(server, codex([message("user", "1\tdef points():")]))
    call = next(one for one in response["output"] if one["type"] == "function_call")
    assert (call.get("namespace"), call["name"]) == ("mcp__signals", "set")
    assert json.loads(call["arguments"])["steps"][0]["at"] == "東京"
