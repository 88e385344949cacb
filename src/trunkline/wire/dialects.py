"""Whose words an error is told in where no codec is at hand: by path, and by who asks."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from trunkline.core.errors import TrunklineError
from trunkline.wire.anthropic import errors as anthropic
from trunkline.wire.kserve import errors as kserve
from trunkline.wire.llamacpp import errors as llamacpp
from trunkline.wire.ollama import errors as ollama
from trunkline.wire.openai import errors as openai
from trunkline.wire.tgi import errors as tgi
from trunkline.wire.vllm import errors as vllm


def _status(error: TrunklineError) -> int:
    return error.status


class Errors(msgspec.Struct, frozen=True):
    """How a dialect tells errors."""

    render: Callable[[TrunklineError], bytes]
    status: Callable[[TrunklineError], int] = _status


OPENAI = Errors(openai.render_error)
ANTHROPIC = Errors(anthropic.render_error, anthropic.status)
OLLAMA = Errors(ollama.render_error, ollama.status)
TGI = Errors(tgi.render_error, tgi.status)
KSERVE = Errors(kserve.render_error, kserve.status)
LLAMACPP = Errors(llamacpp.render_error, llamacpp.status)
VLLM = Errors(vllm.render_error)

# The first prefix that a path has decides.
_PREFIXES = (
    ("/v1/messages", ANTHROPIC),
    ("/api/", OLLAMA),
    ("/generate", TGI),
    ("/info", TGI),
    ("/v2", KSERVE),
    ("/completion", LLAMACPP),
    ("/infill", LLAMACPP),
    ("/apply-template", LLAMACPP),
    ("/props", LLAMACPP),
    ("/slots", LLAMACPP),
    ("/tokenize", VLLM),
    ("/detokenize", VLLM),
    ("/load", VLLM),
    ("/chat_tokenize", TGI),
)


def errors_for(path: str, *, anthropic_client: bool) -> Errors:
    """The dialect of `path`; `anthropic_client`: the request has an `anthropic-version`."""
    for prefix, errors in _PREFIXES:
        if path.startswith(prefix):
            return errors
    return ANTHROPIC if anthropic_client and path.startswith("/v1/") else OPENAI
