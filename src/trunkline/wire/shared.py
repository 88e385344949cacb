"""Paths that several dialects have: which of them a request speaks.

    POST /tokenize     `prompt` or `messages`: vLLM (and SGLang)
                       `inputs`: TGI
                       `content`: llama.cpp
    POST /detokenize   all send `tokens`; one answer has the names of all
    POST /generate     `text` or `input_ids`: SGLang
                       `inputs`: TGI
    GET /              `Accept` of a browser, or of JSON alone: who we are
                       anybody else: Ollama's words (`is_for_ollama`)
    GET /health        one answer for all (`health_body`)

Where a body has none of a path's fields, or cannot be read, the last dialect tells what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trunkline.core.outline import FAULTS
from trunkline.core.types import Json
from trunkline.wire.codec import Codec
from trunkline.wire.llamacpp import lookups as llamacpp
from trunkline.wire.sglang import generate as sglang
from trunkline.wire.tgi import generate as tgi
from trunkline.wire.tgi import lookups as tgi_lookups
from trunkline.wire.vllm import lookups as vllm


class _Fields(msgspec.Struct):
    """The fields that decide; their values are passed over, not read."""

    prompt: Raw | UnsetType = UNSET
    messages: Raw | UnsetType = UNSET
    inputs: Raw | UnsetType = UNSET
    content: Raw | UnsetType = UNSET
    text: Raw | UnsetType = UNSET
    input_ids: Raw | UnsetType = UNSET


class Shared(msgspec.Struct, frozen=True):
    """One path: which field tells of which dialect, the first that is there; else `otherwise`."""

    by_field: Mapping[str, Codec]
    otherwise: Codec


# (method, path) -> who may be meant.
SHARED: Mapping[tuple[str, str], Shared] = {
    ("POST", "/tokenize"): Shared(
        {
            "prompt": vllm.TOKENIZE,
            "messages": vllm.TOKENIZE,
            "inputs": tgi_lookups.TOKENIZE,
            "content": llamacpp.TOKENIZE,
        },
        vllm.TOKENIZE,
    ),
    ("POST", "/detokenize"): Shared({}, vllm.DETOKENIZE),
    ("POST", "/generate"): Shared(
        {"text": sglang.GENERATE, "input_ids": sglang.GENERATE, "inputs": tgi.GENERATE},
        tgi.GENERATE,
    ),
}

_decoder = msgspec.json.Decoder(_Fields)


def choose(shared: Shared, body: bytes | bytearray) -> Codec:
    """The codec of a request: reads the names of the top level, at the cost of one scan."""
    if not shared.by_field:
        return shared.otherwise
    try:
        fields = _decoder.decode(body)
    except FAULTS:
        return shared.otherwise
    for name, codec in shared.by_field.items():
        if getattr(fields, name) is not UNSET:
            return codec
    return shared.otherwise


# Text of Ollama's front page (server/routes.go of ollama/ollama fb30760, 2026-08-21).
OLLAMA_RUNS = b"Ollama is running"

_NAMES_A_PAGE = re.compile(r"\b(text/html|application/json)\b")


def is_for_ollama(accept: str) -> bool:
    """Whether `GET /` with this `Accept` is to say that Ollama runs.

    Programs that wait for Ollama look for its words there, and show nothing of themselves: curl,
    node's fetch, Python's and Go's clients send `*/*` or no `Accept` at all, axios lists text after
    JSON. Homebrew's test of Ollama is one. No other server's client reads the body of that page,
    only its status.
    """
    return "text/plain" in accept.lower() or _NAMES_A_PAGE.search(accept.lower()) is None


def health_body(*, good: bool, why: str, more: Json) -> Json:
    """Body of `GET /health`, which goes with status 200 or 503.

    TGI, vLLM and SGLang have an empty one, so that their clients read the status alone. Clients of
    llama.cpp's server read `status`, "ok" when it is, and otherwise `error` (tools/server/README.md
    of ggml-org/llama.cpp, 2026-08).
    """
    if good:
        return {"status": "ok", **more}
    error = {"code": 503, "message": why, "type": "unavailable_error"}
    return {"status": "unavailable", "error": error, **more}
