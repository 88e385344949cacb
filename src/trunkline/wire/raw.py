"""A request's body, opened no further than needed to pass it on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trunkline.core.outline import FAULTS
from trunkline.wire.codec import Incoming

# Of bodies over this size, in bytes, only those with so many colons or fewer are taken apart:
# each field of the top level costs a hundred bytes, and the smallest one has six.
LARGE = 1 << 20
_MOST_COLONS = 1_000_000
# Longest value that keeps requests together, in characters; a longer one is cut.
_AFFINITY = 512

# Header fields by which clients ask for the same backend again.
_AFFINITY_HEADERS = (b"x-session-id", b"x-session-affinity", b"session_id", b"session-id")
# Fields of OpenAI's dialects that tell who or what a request belongs to; the first counts.
_AFFINITY_FIELDS = ("prompt_cache_key", "session_id", "user", "safety_identifier")
# Most requests have none of these: one look tells.
_NAMING_HEADERS = frozenset(_AFFINITY_HEADERS)
_NAMING_FIELDS = frozenset((*_AFFINITY_FIELDS, "metadata"))
# Fields at the top of a body that matter to whoever passes it on, but for the model's name: those
# above, a stream, several prompts, how long to keep a model, and what an answer goes on from.
ASKING = (*_NAMING_FIELDS, "stream", "prompt", "keep_alive", "previous_response_id", "conversation")

# Names of the longest answer: a body has one of them.
LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


# Objects that hold fields of the kind that OpenAI's dialect has at the top: Gemini's, Bedrock's and
# Ollama's.
HOLDERS = ("generationConfig", "inferenceConfig", "options")


class Peeked(msgspec.Struct, frozen=True):
    """What can be told of a body by its top level."""

    # As the client named it; "" = not named.
    model: str
    stream: bool
    # Top-level fields, each undecoded.
    fields: Mapping[str, Raw]
    # What the client gave to stay with one backend: a session, user or cache key; or "".
    affinity: str = ""


class _Metadata(msgspec.Struct):
    """`metadata`: `user_id` is Anthropic's, agents put their session into it."""

    user_id: str | None = None
    session_id: str | None = None


_fields = msgspec.json.Decoder(dict[str, Raw])
_text: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)
_truth = msgspec.json.Decoder(bool | None)
_texts = msgspec.json.Decoder(list[Raw])
_metadata: msgspec.json.Decoder[_Metadata | None] = msgspec.json.Decoder(_Metadata | None)
_objects: msgspec.json.Decoder[dict[str, Raw] | None] = msgspec.json.Decoder(dict[str, Raw] | None)
_encoder = msgspec.json.Encoder()


T = TypeVar("T")


def teems(body: bytes) -> bool:
    """Whether there may be more in `body` than is taken apart: `peek` leaves that alone."""
    return len(body) > LARGE and body.count(b":") > _MOST_COLONS


def peek(incoming: Incoming, *, streams: bool = False) -> Peeked | None:
    """Take the top level of a body apart.

    `streams` is what the dialect does where a body does not say (Ollama's streams). None where only
    the full decoder can tell what is asked, or what is wrong: the body is no JSON object, a field
    has the wrong type, or there are several prompts.
    """
    body = incoming.body
    if teems(body):
        return None
    try:
        fields = _fields.decode(body)
        model = _text.decode(fields["model"]) if "model" in fields else None
        stream = _truth.decode(fields["stream"]) if "stream" in fields else None
        if "prompt" in fields and _several(fields["prompt"]):
            return None
    except FAULTS:
        return None
    headers = incoming.headers
    nobody = headers.keys().isdisjoint(_NAMING_HEADERS) and fields.keys().isdisjoint(_NAMING_FIELDS)
    return Peeked(
        model or incoming.path.get("model", ""),
        streams if stream is None else stream,
        fields,
        "" if nobody else affinity(fields, headers),
    )


def affinity_of(incoming: Incoming) -> str:
    """As `affinity`, of a body that may be anything."""
    try:
        fields = _fields.decode(incoming.body)
    except FAULTS:
        fields = {}
    return affinity(fields, incoming.headers)


def affinity(fields: Mapping[str, Raw], headers: Mapping[bytes, bytes]) -> str:
    """The session, user or cache key that a request names, or ""."""
    if not headers.keys().isdisjoint(_NAMING_HEADERS):
        for field in _AFFINITY_HEADERS:
            if given := headers.get(field):
                return given.decode("latin-1")[:_AFFINITY]
    if fields.keys().isdisjoint(_NAMING_FIELDS):
        return ""
    for name in _AFFINITY_FIELDS:
        if name in fields and (value := _decoded(_text, fields[name])):
            return value[:_AFFINITY]
    if "metadata" in fields and (found := _decoded(_metadata, fields["metadata"])):
        value = found.session_id or found.user_id or ""
        return value[:_AFFINITY]
    return ""


def with_fields(fields: Mapping[str, Raw], changes: Mapping[str, Any | UnsetType]) -> bytes:
    """A body of `fields` and `changes`, which win; `UNSET` takes a field out.

    What is not changed stays as it is, byte for byte.
    """
    merged = {**fields, **changes}
    if UNSET in changes.values():
        merged = {name: value for name, value in merged.items() if value is not UNSET}
    return _encoder.encode(merged)


def with_model(body: bytes, name: bytes, at: int, other: bytes) -> bytes:
    """`body` with `other` in place of `name`; `name` and `at` as of `Outline.find`."""
    if at < 0:
        return with_fields(_fields.decode(body), {"model": Raw(other)})
    return body[:at] + other + body[at + len(name) :]


def naming(body: bytes, model: str) -> bytes:
    """`body` with `model` as the model that it asks for; what is no object stays as it is."""
    if teems(body):
        return body
    try:
        fields = _fields.decode(body)
    except FAULTS:
        return body
    if "model" in fields and _decoded(_text, fields["model"]) == model:
        return body
    return with_fields(fields, {"model": model})


def lacking(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `defaults` that `fields` does not say, under any of their names.

    Of an object that holds what other dialects have at the top (`HOLDERS`) all of it, with what was
    lacking in it.
    """
    if not defaults:
        return {}
    bounded = any(name in fields for name in LENGTHS)
    found: dict[str, Any] = {}
    for name, value in defaults.items():
        if name not in fields:
            if not (bounded and name in LENGTHS):
                found[name] = value
        elif name in HOLDERS and isinstance(value, Mapping):
            held = fields[name]
            if isinstance(held, Raw):
                # What is no object is left for the server to refuse.
                held = _decoded(_objects, held)
            if isinstance(held, Mapping):
                found[name] = {**value, **held}
    return found


def _several(prompt: Raw) -> bool:
    """Whether `prompt` is a list of prompts; a list of numbers is one prompt of token ids."""
    text = bytes(memoryview(prompt)[:64]).lstrip()
    if text[:1] != b"[" or text[1:].lstrip()[:1] not in (b'"', b"["):
        return False
    return len(_texts.decode(prompt)) != 1


def _decoded(decoder: msgspec.json.Decoder[T | None], raw: Raw) -> T | None:
    """What is there, or None: who a request belongs to is never worth an error."""
    try:
        return decoder.decode(raw)
    except FAULTS:
        return None
