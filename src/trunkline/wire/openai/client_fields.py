"""The fields that chat completions, completions and responses share, as they are sent to a server.

Names beyond OpenAI's are vLLM's (docs/serving/openai_compatible_server.md); grammars as `formats`
reads them. What a server can do, the features of its terms say.
"""

from __future__ import annotations

import hashlib
import re
import string
from typing import Any

import msgspec

from trunkline.core.types import Grammar, Json, Request
from trunkline.wire.asked import Asked, schema_of
from trunkline.wire.client import NOTES, Feature, Outgoing, Terms
from trunkline.wire.raw import LENGTHS

# OpenAI wants a name for each schema, in these letters.
_SCHEMA_NAME = "answer"
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]+")
_MAX_NAME = 64

# OpenAI refuses longer ones; Claude Code's user is longer.
_MAX_IDENTIFIER = 64
_TIERS = frozenset(("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"))

# Ids of tool calls: what OpenAI takes in chat completions ("string too long. Expected a string with
# maximum length 40", 64 since 2026) and in Responses.
CHAT_ID = 40
RESPONSES_ID = 64
# Mistral's: "must be a-z, A-Z, 0-9, with a length of 9".
_SHORT = 9
_ALPHABET = string.digits + string.ascii_letters

# Field of a request -> the same field of the body, and what the server must be able to do.
_SAMPLING: tuple[tuple[str, str, tuple[Feature, ...]], ...] = (
    ("temperature", "temperature", ()),
    ("top_p", "top_p", ()),
    ("min_p", "min_p", ("min_p",)),
    ("typical_p", "typical_p", ("typical_p",)),
    ("repetition_penalty", "repetition_penalty", ("repetition_penalty",)),
    ("presence_penalty", "presence_penalty", ("penalties",)),
    ("frequency_penalty", "frequency_penalty", ("penalties",)),
    ("seed", "seed", ("seed",)),
    ("min_tokens", "min_tokens", ("min_tokens",)),
    ("stop_token_ids", "stop_token_ids", ("stop_token_ids",)),
    ("ignore_eos", "ignore_eos", ("ignore_eos",)),
    ("n", "n", ("n",)),
    ("stop", "stop", ()),
    ("include_stop", "include_stop_str_in_output", ("include_stop",)),
    ("skip_special_tokens", "skip_special_tokens", ("special_tokens",)),
    ("truncate_prompt", "truncate_prompt_tokens", ("truncate_prompt",)),
)


def open_body(asked: Asked) -> Json:
    """Model and stream."""
    body: Json = {"model": asked.terms.model}
    if asked.has("stream"):
        body["stream"] = True
        if asked.has("stream_usage"):
            body["stream_options"] = {"include_usage": True}
    return body


def place_sampling(asked: Asked, request: Request, body: Json) -> None:
    """How tokens are chosen, and where the answer ends; but for the longest answer."""
    if asked.has("repeat_penalty"):
        asked.place(body, "repetition_penalty", "repeat_penalty", "repetition_penalty")
    for name, key, features in _SAMPLING:
        asked.place(body, name, key, *features)
    if request.sampling.top_k > 0:
        asked.place(body, "top_k", "top_k", "top_k")
    else:
        asked.take("top_k")
    biases = asked.take("logit_bias", "logit_bias")
    if biases:
        body["logit_bias"] = {str(token): bias for token, bias in biases}
    if request.priority and asked.has("priority"):
        body["priority"] = request.priority
    if request.cache_salt and asked.has("cache_salt"):
        body["cache_salt"] = request.cache_salt


def longest(asked: Asked, request: Request) -> int | None:
    """Most tokens of an answer, by the client or the terms; None = as many as the server gives.

    A client that asks for more than there is as a matter of course gets what there is.
    """
    most: int | None = asked.take("max_tokens")
    room = asked.terms.context_length
    if most is not None and request.overflow == "cap" and room and most >= room:
        return None
    return default_length(asked.terms) if most is None else most


def default_length(terms: Terms) -> int | None:
    """Most tokens of an answer whose client does not say; None = the terms do not either."""
    given = (terms.default_body[name] for name in LENGTHS if name in terms.default_body)
    return next((one for one in given if isinstance(one, int)), None)


def place_tools(asked: Asked, request: Request, body: Json) -> None:
    """`tools` as chat completions spell them, and the choice among them."""
    if request.tool_choice == "none" and not asked.has("tool_choice"):
        # What is not shown is not called.
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            asked.take(name)
        return
    tools = asked.take("tools", "tools")
    if tools is None:
        # The choice among none goes with them.
        asked.take("tool_choice")
        asked.take("parallel_tool_calls")
        return
    body["tools"] = list(tools)
    choice = asked.take("tool_choice", "tool_choice")
    if choice == "named":
        body["tool_choice"] = {"type": "function", "function": {"name": request.tool_name}}
    elif choice is not None:
        body["tool_choice"] = choice
    asked.place(body, "parallel_tool_calls", "parallel_tool_calls", "parallel_tool_calls")


def place_notes(asked: Asked, body: Json, *excepted: str) -> None:
    """What the client says besides, where the server has the feature; the rest is told."""
    for name in NOTES:
        if name in excepted or not asked.has(name) or (said := asked.note(name)) is None:
            continue
        if name == "service_tier":
            # Anthropic's word.
            said = "default" if said == "standard_only" else said
            if said not in _TIERS:
                asked.tell(name)
                continue
        if isinstance(said, str) and len(said) > _MAX_IDENTIFIER:
            said = hashlib.blake2b(said.encode(), digest_size=_MAX_IDENTIFIER // 2).hexdigest()
        body[name] = said


def call_id(given: str, terms: Terms, longest: int) -> str:
    """`given` where the server takes such an id of a call, else one that is made of it.

    The same for the call and its result, in each turn that repeats them.
    """
    if "short_call_ids" in terms.features:
        if len(given) == _SHORT and given.isascii() and given.isalnum():
            return given
        number = int.from_bytes(hashlib.blake2b(given.encode(), digest_size=8).digest())
        return "".join(_ALPHABET[number // 62**place % 62] for place in range(_SHORT))
    if len(given) > longest and "max_completion_tokens" in terms.features:
        # OpenAI's own; ids of others may mean something to them.
        return "call_" + hashlib.blake2b(given.encode(), digest_size=16).hexdigest()
    return given


def place_grammar(asked: Asked, body: Json) -> None:
    """The constraint on the answer."""
    grammar: Grammar | None = asked.take("grammar")
    if grammar is None:
        return
    wanted = response_format(asked, grammar)
    if wanted is not None:
        if "schema" in wanted:
            nested = {key: value for key, value in wanted.items() if key != "type"}
            wanted = {"type": "json_schema", "json_schema": nested}
        body["response_format"] = wanted
    elif asked.has("grammar") and (fields := _grammar_fields(asked, grammar)):
        body |= fields
    else:
        asked.leave("grammar", grammar)


def response_format(asked: Asked, grammar: Grammar) -> Json | None:
    """A constraint by JSON as the Responses API spells it (`text.format`), if the server has it."""
    if grammar.kind == "json_schema" and asked.has("json_schema"):
        schema = schema_of(grammar)
        strict = _LENIENT not in grammar.value and is_closed(schema)
    elif grammar.kind == "json_object" and asked.has("json_object"):
        return {"type": "json_object"}
    elif grammar.kind == "json_object" and asked.has("json_schema"):
        schema, strict = {"type": "object"}, False
    else:
        return None
    name = _NO_NAME.sub("_", grammar.name)[:_MAX_NAME].strip("_") or _SCHEMA_NAME
    wanted: Json = {"type": "json_schema", "name": name, "schema": schema, "strict": strict}
    if grammar.description:
        wanted["description"] = grammar.description
    return wanted


# As `formats` marks schemas of which not everything must be enforced.
_LENIENT = '"x-guidance":{"lenient":true}'


def is_closed(schema: Any) -> bool:
    """Whether a schema may be sent as a strict one.

    OpenAI refuses strict ones with an object that allows more than it lists, or leaves some of it
    optional (platform.openai.com/docs/guides/structured-outputs, "Supported schemas").
    """
    left = [schema]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left += one
        elif isinstance(one, dict):
            if one.get("type") == "object" or isinstance(one.get("properties"), dict):
                listed = one.get("properties") or {}
                required = one.get("required") or []
                if one.get("additionalProperties") is not False or set(listed) != set(required):
                    return False
            left += one.values()
    return True


def _grammar_fields(asked: Asked, grammar: Grammar) -> Json:
    """Fields for a grammar; none where this server has none for its kind."""
    kind = grammar.kind
    value: Any = grammar.value
    if kind == "json_schema":
        value = schema_of(grammar)
    elif kind == "choice":
        value = msgspec.json.decode(value)
    elif kind == "json_object":
        kind, value = "json_schema", {"type": "object"}
    if asked.has("ebnf_fields"):
        if kind == "json_schema":
            return {"json_schema": msgspec.json.encode(value).decode()}
        name = {"regex": "regex", "gbnf": "ebnf"}.get(kind)
        return {name: value} if name else {}
    spelled = {"json_schema": "json", "gbnf": "grammar", "lark": "grammar"}.get(kind, kind)
    if asked.has("guided_fields"):
        return {f"guided_{spelled}": value}
    return {"structured_outputs": {spelled: value}}


def finished(asked: Asked, path: str, body: Json, passed_over: tuple[str, ...] = ()) -> Outgoing:
    """The finished request. `passed_over` is never refused, but named: it only helps along."""
    outgoing = asked.outgoing(path, body)
    if passed_over:
        return msgspec.structs.replace(outgoing, dropped=(*outgoing.dropped, *passed_over))
    return outgoing
