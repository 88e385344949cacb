from __future__ import annotations

import json

import pytest

from trunkline.core import errors
from trunkline.core.errors import TrunklineError
from trunkline.wire.anthropic.errors import render_error, status


# platform.claude.com/docs/en/api/errors, read 2026-11-21.
@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (errors.InvalidRequest("x"), 400, "invalid_request_error"),
        (errors.Unprocessable("x"), 400, "invalid_request_error"),
        (errors.Unauthenticated("x"), 401, "authentication_error"),
        (errors.PermissionDenied("x"), 403, "permission_error"),
        (errors.NotFound("x"), 404, "not_found_error"),
        (errors.ModelNotFound("x"), 404, "not_found_error"),
        (errors.MethodNotAllowed("x"), 405, "invalid_request_error"),
        (errors.PayloadTooLarge("x"), 413, "request_too_large"),
        (errors.QueueFull("x"), 429, "rate_limit_error"),
        (errors.RateLimited("x"), 429, "rate_limit_error"),
        (errors.RequestTimeout("x"), 408, "timeout_error"),
        (errors.UpstreamTimeout("x"), 504, "timeout_error"),
        (errors.UpstreamFailed("x"), 502, "api_error"),
        (errors.UpstreamRefused("x"), 502, "api_error"),
        (errors.Cancelled("x"), 499, "api_error"),
        (errors.ContentRefused("x"), 400, "invalid_request_error"),
        (errors.Unsupported("x"), 400, "invalid_request_error"),
        (errors.InternalError("x"), 500, "api_error"),
        (errors.EngineCrashed("x"), 500, "api_error"),
        (errors.Unavailable("x"), 529, "overloaded_error"),
    ],
)
def test_statuses_and_types(error: TrunklineError, code: int, kind: str) -> None:
    assert status(error) == code
    body = json.loads(render_error(error))
    assert body == {"type": "error", "error": {"type": kind, "message": "x"}}


def test_the_id_of_the_request_is_told() -> None:
    error = errors.NotFound("x")
    error.request_id = "msg_1"
    assert json.loads(render_error(error))["request_id"] == "msg_1"


LIMIT = "This model's maximum context length is 4096 tokens. However, you requested "


# The words that litellm 1.106 looks for in `exception_mapping_utils.py`.
@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            f"{LIMIT}9000 tokens in the messages, which leaves no room for the completion.",
            "prompt is too long: 9000 tokens > 4096 maximum",
        ),
        (
            f"{LIMIT}41000 tokens (9000 in the messages, 32000 in the completion).",
            "prompt is too long: 9000 tokens > 4096 maximum",
        ),
        ("It is too much for me.", "prompt is too long: It is too much for me."),
    ],
)
def test_a_prompt_that_is_too_long(said: str, shown: str) -> None:
    error = errors.ContextOverflow(said)
    assert status(error) == 400
    assert json.loads(render_error(error))["error"] == {
        "type": "invalid_request_error",
        "message": shown,
    }


def test_a_conversation_that_is_not_kept_is_one_that_the_client_sends_again() -> None:
    shown = json.loads(render_error(errors.PreviousNotFound("x")))["error"]
    assert shown["details"] == {"error_code": "thread_not_found"}
