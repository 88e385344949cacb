from __future__ import annotations

import json

import pytest

from tests.wire.openai.support import events, golden
from trunkline.core.errors import (
    ContextOverflow,
    EngineCrashed,
    ErrorInfo,
    ModelNotFound,
    QueueFull,
    TrunklineError,
    Unauthenticated,
    from_info,
)
from trunkline.wire.openai.answers import stream_error
from trunkline.wire.openai.errors import render_error


def test_the_published_error() -> None:
    theirs = golden("error.json")
    ours = json.loads(render_error(ModelNotFound(theirs["error"]["message"])))
    assert ours == theirs


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (ContextOverflow("x"), "invalid_request_error", "context_length_exceeded"),
        (Unauthenticated("x"), "invalid_request_error", "invalid_api_key"),
        (QueueFull("x"), "rate_limit_error", "rate_limit_exceeded"),
        (EngineCrashed("x"), "server_error", "engine_crashed"),
        (from_info(ErrorInfo("unprocessable", "x")), "invalid_request_error", None),
        (from_info(ErrorInfo("never heard of", "x")), "server_error", None),
    ],
)
def test_types_and_codes(error: TrunklineError, kind: str, code: str | None) -> None:
    shown = json.loads(render_error(error))["error"]
    assert (shown["type"], shown["code"]) == (kind, code)


def test_an_error_within_a_stream_is_one_event() -> None:
    (event,) = events(stream_error(EngineCrashed("it\n\ndied", param="x")))
    assert event["error"]["message"] == "it\n\ndied"
    assert event["error"]["param"] == "x"
