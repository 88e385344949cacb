"""What servers say in errors, in their own words, and what it means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trunkline.core.errors import (
    ContentRefused,
    ContextOverflow,
    InvalidRequest,
    PayloadTooLarge,
    PreviousNotFound,
    RateLimited,
    TrunklineError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from trunkline.wire.client import Head
from trunkline.wire.told import refusal, reported


def told(status: int, body: Any, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return refusal(Head(status, {key.replace("_", "-"): headers[key] for key in headers}), data)


def openai(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", **more}}


# OpenAI's and Azure's from their documentation and forums; the engines' from their sources:
# vLLM vllm/renderers and vllm/v1/engine, SGLang srt/managers/tokenizer_manager.py, llama.cpp
# tools/server/server-context.cpp, TGI router/src/validation.rs; Anthropic's from its documentation
# of context windows. All read 2026-11-21.
OVERFLOWS = [
    (400, openai("Too long.", code="context_length_exceeded", param="messages")),
    (400, openai("This model's maximum context length is 8192 tokens. However, your messages ...")),
    (400, openai("Your input exceeds the context window of this model. Please adjust your input")),
    (
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens. However, you "
            "requested 5000 tokens (4000 in the messages, 1000 in the completion).",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
    ),
    (
        400,
        openai(
            "The decoder prompt (length 5000) is longer than the maximum model length of 4096. "
            "Make sure that `max_model_len` is no smaller than the number of text tokens."
        ),
    ),
    (400, {"object": "error", "message": "The input (12 tokens) is longer than the "
            "model's context length (8 tokens)."}),
    (
        400,
        {
            "object": "error",
            "message": "Requested token count exceeds the model's maximum context "
            "length of 8 tokens.",
        },
    ),
    (
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9,
                "n_ctx": 8,
            }
        },
    ),
    (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. "
            "Given: 4000 `inputs` tokens and 1000 `max_new_tokens`",
            "error_type": "validation",
        },
    ),
    (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "prompt is too long: 210000 tokens > 200000 maximum",
            },
        },
    ),
    (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "input length and `max_tokens` exceed context limit: "
                "190000 + 20000 > 200000",
            },
        },
    ),
    (400, openai("Please reduce the length of the messages or completion.")),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), OVERFLOWS)
def test_a_context_that_is_too_small(status: int, body: Any) -> None:
    error = told(status, body)
    assert isinstance(error, ContextOverflow)
    assert error.message


AZURE = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content "
        "management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation"},
    }
}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, AZURE),
        (400, openai("Invalid prompt: your prompt was flagged as potentially violating", code="x")),
        (400, openai("no", code="content_policy_violation")),
        (400, {"error": {"message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        (400, openai("Output blocked by content filtering policy")),
        (403, openai("Your input was flagged by moderation")),
    ],
)
def test_content_that_is_refused(status: int, body: Any) -> None:
    assert isinstance(told(status, body), ContentRefused)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, openai("Incorrect API key: sk-abc***xyz", code="invalid_api_key"), UpstreamRefused),
        (403, openai("no"), UpstreamRefused),
        (402, openai("Insufficient Balance"), UpstreamRefused),
        (404, openai("The model `x` does not exist", code="model_not_found"), UpstreamRefused),
        (404, {"detail": "Not Found"}, UpstreamRefused),
        (400, openai("Invalid model: x", type="invalid_model"), UpstreamRefused),
        (429, openai("You exceeded your quota", code="insufficient_quota"), UpstreamRefused),
        (429, openai("Rate limit reached"), RateLimited),
        (413, openai("Request too large"), PayloadTooLarge),
        (408, {}, UpstreamTimeout),
        (504, b"<html>gateway timeout</html>", UpstreamTimeout),
        (500, openai("The server had an error"), UpstreamFailed),
        (503, b"", UpstreamFailed),
        (529, {"type": "error", "error": {"type": "overloaded_error"}}, UpstreamFailed),
        (400, openai("Bad 'x'", param="x"), InvalidRequest),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "not a number"}]}, InvalidRequest),
        (302, b"", UpstreamFailed),
        (500, b"[]", UpstreamFailed),
        (500, b"[" * 5000, UpstreamFailed),
        (500, b"\xff\xfe", UpstreamFailed),
    ],
)  # fmt: skip
def test_statuses(status: int, body: Any, kind: type[TrunklineError]) -> None:
    error = told(status, body)
    assert isinstance(error, kind)
    assert "sk-" not in error.message
    assert "<html" not in error.message


def test_the_servers_own_words_and_field() -> None:
    error = told(400, openai("Bad 'x'", param="x"))
    assert type(error) is InvalidRequest
    assert "Bad 'x'" in error.message
    assert error.param == "x"
    fastapi = told(422, {"detail": [{"loc": ["body", "n"], "msg": "not a number"}]})
    assert "not a number" in fastapi.message


DATE = "Sat, 21 Nov 2026 06:00:{:02} GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after_ms": "250", "retry_after": "1"}, 0.25),
        ({"retry_after_ms": "soon", "retry_after": "1"}, 1),
        ({"retry_after_ms": "nan"}, None),
        ({"retry_after": DATE.format(30), "date": DATE.format(0)}, 30),
        ({"retry_after": "999999999"}, 86400),
        ({"retry_after": "later"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_how_long_to_stay_away(headers: dict[str, str], seconds: float | None) -> None:
    assert told(429, {}, **headers).retry_after == seconds


def test_an_error_without_a_shape() -> None:
    assert isinstance(reported({"error": None}), UpstreamFailed)
    assert isinstance(reported("x"), UpstreamFailed)
    assert isinstance(reported([]), UpstreamFailed)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            400,
            openai(
                "Previous response with id 'resp_1' not found.",
                code="previous_response_not_found",
                param="previous_response_id",
            ),
        ),
        # vLLM's vllm/entrypoints/openai/responses/serving.py, `_make_not_found_error`.
        (
            404,
            {
                "error": {
                    "message": "Response with id 'resp_1' not found.",
                    "type": "invalid_request_error",
                    "param": "response_id",
                    "code": 404,
                }
            },
        ),
    ],
)
def test_an_earlier_response_that_is_not_there(status: int, body: Any) -> None:
    error = told(status, body)
    assert isinstance(error, PreviousNotFound)
    assert error.param == "previous_response_id"
    assert "resp_1" in error.message
