"""`POST /v1/messages`, spoken to a server.

Shapes: the official client's `types/message_create_params.py` (anthropic 2.11, read 2026-11-21).
What a model takes of it: `claude`.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import UNSET

from trunkline.core.errors import TrunklineError, Unsupported, UpstreamFailed
from trunkline.core.types import ChatInput, Grammar, Json, RawRequest, Request
from trunkline.wire.anthropic.claude import Claude, claude
from trunkline.wire.anthropic.client_answer import MessageAnswer, MessagePassing, look
from trunkline.wire.anthropic.client_relay import adapted, checks_signatures
from trunkline.wire.anthropic.client_thinking import default_tokens, place_thinking
from trunkline.wire.anthropic.client_turns import called_tools, limit_marks, turns
from trunkline.wire.asked import Asked, chat_input, schema_of
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Terms, uncounted
from trunkline.wire.openai.client_fields import longest
from trunkline.wire.passing import WholePassing, renaming
from trunkline.wire.reading import StreamReader, WholeReader, is_whole
from trunkline.wire.relays import passes, patched
from trunkline.wire.sse import EventReader
from trunkline.wire.told import refusal

_PATH = "/v1/messages"
_HEADERS = (("content-type", "application/json"), ("anthropic-version", "2023-06-01"))

# Services by OpenAI's names.
_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
# Who a user is must not be said in so many words: mail addresses and numbers of telephones are
# refused (litellm 1.106, `_valid_user_id`), and what is longer than this.
_PERSONAL = re.compile(r"[^@\s]+@[^@\s]+\.[a-zA-Z]{2,}|\+?[\d\s()-]{7,}")
_LONGEST_USER = 256


class MessagesSpeaker:
    """See `Speaker`."""

    operation = "anthropic.messages"
    path = _PATH
    counts = staticmethod(uncounted)
    look = staticmethod(look)

    def passes(self, terms: Terms) -> bool:
        """See `PlainSpeaker`."""
        return passes(terms) and not checks_signatures(terms)

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """A conversation. Raises `Unsupported` for any other prompt, too."""
        source = chat_input(request, "Anthropic's API")
        asked = Asked(request, terms)
        model = claude(terms.model)
        system, messages = turns(asked, source)
        most = longest(asked, request)
        body: Json = {
            "model": terms.model,
            "max_tokens": default_tokens(model) if most is None else most,
            "messages": messages,
        }
        if system:
            body["system"] = system
        if asked.has("stream"):
            body["stream"] = True
        _place_sampling(asked, request, model, body)
        _place_tools(asked, request, model, body)
        if "tools" not in body and asked.has("tools") and not asked.has("template_kwargs"):
            _place_called(source, body)
        _place_format(asked, body)
        place_thinking(asked, source, body, bounded=most is not None)
        _place_continuation(asked, model, messages)
        _place_notes(asked, body)
        limit_marks(asked, source, body)
        return _with_headers(asked.outgoing(_PATH, body), _HEADERS)

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """Of events, or of one message."""
        answer = MessageAnswer(request, seals="template_kwargs" not in terms.features)
        return WholeReader(answer) if is_whole(head) else StreamReader(EventReader(), answer)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """See `Speaker`."""
        left_out: tuple[str, ...] = ()
        if checks_signatures(terms):
            changes, left_out = adapted(raw, terms.model)
            if changes:
                merged = {**raw.fields, **changes}
                fields = {name: one for name, one in merged.items() if one is not UNSET}
                raw = msgspec.structs.replace(raw, fields=fields)
        outgoing = msgspec.structs.replace(patched(_PATH, raw, terms), dropped=left_out)
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


def _place_sampling(asked: Asked, request: Request, model: Claude, body: Json) -> None:
    """Neutral values are Anthropic's own; engines of open models may have others by default."""
    sampling = request.sampling
    if sampling.temperature == 1 and not asked.has("template_kwargs"):
        asked.take("temperature")
    elif sampling.temperature <= 1 and model.samples:
        asked.place(body, "temperature", "temperature")
    if sampling.top_p == 1 and not asked.has("template_kwargs"):
        asked.take("top_p")
    elif model.samples and (model.samples_twice or "temperature" not in body):
        asked.place(body, "top_p", "top_p")
    if sampling.top_k <= 0:
        asked.take("top_k")
    elif model.samples:
        asked.place(body, "top_k", "top_k", "top_k")
    # What matched is told, so the reader can put it back.
    asked.take("include_stop")
    stops: list[str] | None = asked.take("stop")
    if stops is not None:
        # Those of white space alone are refused there.
        body["stop_sequences"] = [one for one in stops if one.strip()]
        if len(body["stop_sequences"]) < len(stops):
            asked.leave("stop", stops)


def _place_tools(asked: Asked, request: Request, model: Claude, body: Json) -> None:
    tools = asked.take("tools", "tools")
    if tools is None or (request.tool_choice == "none" and not asked.has("tool_choice")):
        # The choice among none goes with them.
        asked.take("tool_choice")
        asked.take("parallel_tool_calls")
        return
    body["tools"] = [_tool(one["function"]) for one in tools]
    choice = asked.take("tool_choice", "tool_choice") or "auto"
    if choice in ("required", "named") and not model.forces:
        asked.leave("tool_choice", choice)
        choice = "auto"
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


def _place_called(source: ChatInput, body: Json) -> None:
    """Tools that nobody offers now, but that the conversation calls."""
    if tools := called_tools(source.messages):
        body["tools"] = tools
        body["tool_choice"] = {"type": "none"}


def _place_continuation(asked: Asked, model: Claude, messages: list[Json]) -> None:
    if asked.peek("continue_final_message") is None:
        return
    if not messages or messages[-1]["role"] != "assistant":
        return
    if model.continues:
        if asked.take("continue_final_message", "continue_final_message"):
            _trim(messages)
    elif len(messages) > 1:
        # Left to be refused; or the answer begins anew.
        messages.pop()
    else:
        problem = f"{asked.terms.model!r} continues no message, and there is no other."
        raise Unsupported(problem, param="messages")


def _place_notes(asked: Asked, body: Json) -> None:
    user = asked.note("user")
    if isinstance(user, str) and len(user) <= _LONGEST_USER and not _PERSONAL.fullmatch(user):
        body["metadata"] = {"user_id": user}
    elif user is not None:
        asked.tell("user")
    tier = asked.note("service_tier")
    if tier is not None and asked.terms.hosted and tier in _TIERS:
        body["service_tier"] = _TIERS[tier]
    elif tier is not None:
        asked.tell("service_tier")


def _trim(messages: list[Json]) -> None:
    """An answer to be continued must not end in white space; the reader sees to what follows."""
    last = messages[-1]
    if isinstance(last["content"], str):
        last["content"] = last["content"].rstrip()
    elif last["content"][-1]["type"] == "text":
        block = last["content"][-1]
        block["text"] = block["text"].rstrip()
