"""Errors in Ollama's shape: {"error": "..."}; within a stream the same as its last line.

Texts and statuses: server/routes.go, llm/llama_server.go of ollama/ollama fb30760 (2026-08-21).
Where Ollama has nothing of the kind, the text is ours.
"""

from __future__ import annotations

import re

import msgspec

from trunkline.core.errors import InvalidRequest, ModelNotFound, TrunklineError
from trunkline.wire.one_line import Encoder

# kind -> text, where Ollama has one of its own. "maximum pending" is what its clients look for.
_TEXTS = {
    "queue_full": "server busy, please try again.  maximum pending requests exceeded",
    "cancelled": "request canceled",
    "context_overflow": (
        "the prompt is longer than the context length currently available to the model; shorten "
        "the prompt, adjust the context length in settings, or use a model with a longer context "
        "length"
    ),
}
_STATUSES = {"queue_full": 503, "unprocessable": 400, "request_timeout": 503}
# The name in a `ModelNotFound` of the gateway.
_NAMED = re.compile(r"`([^`]*)`")

_encoder = Encoder()


class _Body(msgspec.Struct):
    error: str


def render_error(error: TrunklineError) -> bytes:
    """The body of an error response."""
    return _encoder.encode(_Body(_text(error)))


def stream_error(error: TrunklineError) -> bytes:
    """The last line of a stream that failed."""
    return render_error(error) + b"\n"


def status(error: TrunklineError) -> int:
    """HTTP status of `error`."""
    return _STATUSES.get(error.kind, error.status)


def not_found(name: str) -> ModelNotFound:
    """Ollama's words for a model that is not there."""
    return ModelNotFound(f"The model `{name}` does not exist.", param="model")


def malformed(error: Exception) -> TrunklineError:
    """What is wrong with a body that msgspec could not decode."""
    if isinstance(error, msgspec.ValidationError):
        # "Expected `int`, got `str` - at `$.top_logprobs`" -> "top_logprobs".
        reason, _, path = str(error).partition(" - at `$")
        param = path.rstrip("`").lstrip(".") or None
        where = f"invalid value for {param!r}" if param else "invalid request body"
        return InvalidRequest(f"{where}: {reason}", param=param)
    if isinstance(error, RecursionError):
        return InvalidRequest("the JSON of the request is nested too deeply")
    return InvalidRequest(f"the request is not valid JSON: {error}")


def _text(error: TrunklineError) -> str:
    if error.kind == "model_not_found":
        named = _NAMED.search(error.message)
        return f"model '{named[1]}' not found" if named else error.message
    return _TEXTS.get(error.kind, error.message)
