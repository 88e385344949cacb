"""`POST /v1/messages`, spoken to a server.

Shapes: the official client's `types/message_create_params.py` (anthropic 2.11). What of thinking a
model takes: platform.claude.com/docs/en/build-with-claude/extended-thinking. Read 2026-11-21.
"""

from __future__ import annotations

import re

from trunkline.core.errors import TrunklineError, UpstreamFailed
from trunkline.core.types import ChatInput, Grammar, Json, RawRequest, Request
from trunkline.wire.anthropic.client_answer import MessageAnswer, MessagePassing, look
from trunkline.wire.anthropic.client_turns import lacks_thought, turns
from trunkline.wire.asked import Asked, chat_input, schema_of
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Terms, uncounted
from trunkline.wire.openai.client_fields import finished, longest
from trunkline.wire.passing import WholePassing, renaming
from trunkline.wire.reading import StreamReader, WholeReader, is_whole
from trunkline.wire.relays import passes, patched
from trunkline.wire.sse import EventReader
from trunkline.wire.told import refusal

_PATH = "/v1/messages"
_HEADERS = (("content-type", "application/json"), ("anthropic-version", "2023-06-01"))

# `max_tokens` must be said; every model of today answers at least so long.
_DEFAULT_TOKENS = 8192
# Models that think within a budget of tokens; 4.6 and later decide for themselves.
_BUDGETED = re.compile(r"claude-3|claude-[a-z]+-4(?!-?\.?[6-9])")
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384}
_LEAST_BUDGET = 1024
_DEFAULT_BUDGET = 8192
_EFFORTS = {"minimal": "low"}


class MessagesSpeaker:
    """See `Speaker`."""

    operation = "anthropic.messages"
    path = _PATH
    counts = staticmethod(uncounted)
    look = staticmethod(look)
    passes = staticmethod(passes)

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """A conversation. Raises `Unsupported` for any other prompt, too."""
        source = chat_input(request, "Anthropic's API")
        asked = Asked(request, terms)
        keeps = asked.has("template_kwargs")
        system, messages = turns(source.messages, thoughts=keeps)
        most = longest(asked, request)
        body: Json = {
            "model": terms.model,
            "max_tokens": _DEFAULT_TOKENS if most is None else most,
            "messages": messages,
        }
        if system:
            body["system"] = system
        if asked.has("stream"):
            body["stream"] = True
        _place_sampling(asked, request, body)
        _place_tools(asked, request, body)
        _place_format(asked, body)
        passed_over = _place_thinking(asked, source, body)
        if not keeps and any(message.reasoning_content for message in source.messages):
            passed_over = (*passed_over, "reasoning_content")
        if asked.take("continue_final_message", "continue_final_message"):
            _trim(messages)
        outgoing = finished(asked, _PATH, body, passed_over)
        return _with_headers(outgoing, _HEADERS)

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """Of events, or of one message."""
        answer = MessageAnswer(request)
        return WholeReader(answer) if is_whole(head) else StreamReader(EventReader(), answer)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """See `Speaker`."""
        outgoing = patched(_PATH, raw, terms)
        sent = [one for one in raw.headers if one[0].startswith("anthropic-")]
        return _with_headers(outgoing, tuple((dict(_HEADERS) | dict(sent)).items()))

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        """See `Speaker`. Raises `UpstreamFailed` for JSON where a stream was asked for."""
        name = raw.asked_model if raw.asked_model != terms.model else None
        if not is_whole(head):
            return MessagePassing(raw.id, name)
        if raw.stream:
            raise UpstreamFailed("The backend answered with one message; a stream was asked for.")
        return WholePassing(raw.id, renaming(name), look)

    def error(self, head: Head, body: bytes) -> TrunklineError:
        """See `Speaker`."""
        return refusal(head, body)


def _with_headers(outgoing: Outgoing, headers: tuple[tuple[str, str], ...]) -> Outgoing:
    return Outgoing(
        path=outgoing.path, body=outgoing.body, headers=headers, dropped=outgoing.dropped
    )


def _place_sampling(asked: Asked, request: Request, body: Json) -> None:
    if request.sampling.temperature <= 1:
        asked.place(body, "temperature", "temperature")
    asked.place(body, "top_p", "top_p")
    if request.sampling.top_k > 0:
        asked.place(body, "top_k", "top_k", "top_k")
    else:
        asked.take("top_k")
    # What matched is told, so the reader can put it back.
    asked.take("include_stop")
    stops: list[str] | None = asked.take("stop")
    if stops is not None:
        # Those of white space alone are refused there.
        body["stop_sequences"] = [one for one in stops if one.strip()]
        if len(body["stop_sequences"]) < len(stops):
            asked.leave("stop", stops)


def _place_tools(asked: Asked, request: Request, body: Json) -> None:
    tools = asked.take("tools", "tools")
    if tools is None or (request.tool_choice == "none" and not asked.has("tool_choice")):
        # The choice among none goes with them.
        asked.take("tool_choice")
        asked.take("parallel_tool_calls")
        return
    body["tools"] = [_tool(one["function"]) for one in tools]
    choice = asked.take("tool_choice", "tool_choice") or "auto"
    spelled: Json = {"type": {"required": "any", "named": "tool"}.get(choice, choice)}
    if choice == "named":
        spelled["name"] = request.tool_name
    if asked.take("parallel_tool_calls", "parallel_tool_calls") is False and choice != "none":
        spelled["disable_parallel_tool_use"] = True
    if spelled != {"type": "auto"}:
        body["tool_choice"] = spelled


def _tool(function: Json) -> Json:
    tool: Json = {
        "name": function["name"],
        "input_schema": {"type": "object", **(function.get("parameters") or {"properties": {}})},
    }
    if function.get("description"):
        tool["description"] = function["description"]
    if function.get("strict") is True:
        tool["strict"] = True
    return tool


def _place_format(asked: Asked, body: Json) -> None:
    grammar: Grammar | None = asked.take("grammar", "json_schema")
    if grammar is None:
        return
    if grammar.kind == "json_schema":
        wanted = {"type": "json_schema", "schema": schema_of(grammar)}
        body["output_config"] = {"format": wanted}
    else:
        asked.leave("grammar", grammar)


def _place_thinking(asked: Asked, source: ChatInput, body: Json) -> tuple[str, ...]:
    """Whether to think, and how hard. Returns what is passed over."""
    wanted = asked.reasoning()
    if asked.take("reasoning") is not None:
        # A model that does not think is no reason to refuse.
        return ("reasoning",)
    if wanted.enabled is False:
        body["thinking"] = {"type": "disabled"}
        return ()
    if wanted.enabled is None and wanted.effort is None:
        return ()
    forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    budgeted = _BUDGETED.search(asked.terms.model) is not None
    short = budgeted and body["max_tokens"] <= _LEAST_BUDGET
    if forced or short or (not asked.has("template_kwargs") and lacks_thought(source.messages)):
        # Refused there together with thinking.
        return ("reasoning",)
    if budgeted:
        budget = _BUDGETS.get(wanted.effort or "", _DEFAULT_BUDGET)
        budget = min(budget, body["max_tokens"] - 1)
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    else:
        body["thinking"] = {"type": "adaptive"}
        if wanted.effort is not None:
            effort = _EFFORTS.get(wanted.effort, wanted.effort)
            body["output_config"] = {**body.get("output_config", {}), "effort": effort}
    for name in ("temperature", "top_k"):
        # Neither goes together with thinking.
        if name in body:
            asked.leave(name, body.pop(name))
    return ()


def _trim(messages: list[Json]) -> None:
    """An answer to be continued must not end in white space; the reader sees to what follows."""
    last = messages[-1]
    if isinstance(last["content"], str):
        last["content"] = last["content"].rstrip()
    elif last["content"][-1]["type"] == "text":
        block = last["content"][-1]
        block["text"] = block["text"].rstrip()
