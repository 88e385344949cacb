from __future__ import annotations

import json

import pytest

from trunkline.core.errors import (
    Cancelled,
    ContextOverflow,
    EngineCrashed,
    InvalidRequest,
    ModelNotFound,
    QueueFull,
    TrunklineError,
    Unauthenticated,
    Unavailable,
    Unprocessable,
)
from trunkline.wire.ollama.errors import render_error, status, stream_error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            ModelNotFound("The model `x` does not exist. Models here: `m`."),
            404,
            "model 'x' not found",
        ),
        (InvalidRequest("top_logprobs must be between 0 and 20"), 400, "top_logprobs must be"),
        (Unprocessable("no"), 400, "no"),
        (
            QueueFull("full"),
            503,
            "server busy, please try again.  maximum pending requests exceeded",
        ),
        (Cancelled("gone"), 499, "request canceled"),
        (ContextOverflow("4 tokens"), 400, "the prompt is longer than the context length"),
        (Unauthenticated("no key"), 401, "no key"),
        (Unavailable("loading"), 503, "loading"),
        (EngineCrashed("died"), 500, "died"),
    ],
)
def test_texts_and_statuses(error: TrunklineError, code: int, message: str) -> None:
    body = json.loads(render_error(error))
    assert list(body) == ["error"]
    assert body["error"].startswith(message)
    assert status(error) == code


def test_an_error_within_a_stream_is_its_last_line() -> None:
    assert stream_error(EngineCrashed("died")) == b'{"error":"died"}\n'
