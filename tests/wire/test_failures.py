"""Statuses and words of other servers' errors.

Words: Gemini's from github.com/google-gemini/gemini-cli issues 5807 and 15184, Bedrock's from
github.com/strands-agents issue 1912 and aws-samples/bedrock-chat issue 95, Cohere's from
cohere-ai/sandbox-topically issue 4, vLLM's from PrimeIntellect-ai/verifiers issue 398, TGI's from
router/src/validation.rs (db931fc), Ollama's from server/routes.go (fb30760); read 2026-11-21.
"""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime, timedelta

import pytest

from trunkline.core.errors import (
    ContentRefused,
    ContextOverflow,
    InvalidRequest,
    RateLimited,
    TrunklineError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from trunkline.wire.client import Head
from trunkline.wire.failures import failure, rejected, retry_after_of


@pytest.mark.parametrize(
    "words",
    [
        "The input token count (1091639) exceeds the maximum number of tokens allowed (1048576).",
        "The input token count exceeds the maximum number of tokens allowed 1048576.",
        "Input is too long for requested model.",
        "The model returned the following errors: prompt is too long: 200049 tokens > 200000",
        "too many tokens: total number of tokens (prompt and prediction) cannot exceed 2048",
        "This model's maximum context length is 8192 tokens. However, your request has 8195",
        "`inputs` must have less than 1024 tokens. Given: 2048",
        "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2000 `inputs` tokens and 100",
        "the prompt is longer than the context length currently available to the model",
        "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
    ],
)
def test_a_prompt_that_does_not_fit(words: str) -> None:
    assert type(rejected(words)) is ContextOverflow


@pytest.mark.parametrize(
    "words",
    [
        "max_tokens must be at most 4096",
        "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
        "temperature must be between 0 and 2",
        "Invalid 'messages[0].role'",
    ],
)
def test_anything_else_is_no_overflow(words: str) -> None:
    assert type(rejected(words)) is InvalidRequest


def test_a_policy_that_refuses() -> None:
    words = "The response was filtered due to the prompt triggering our content management policy."
    assert type(rejected(words)) is ContentRefused


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, UpstreamRefused),
        (403, UpstreamRefused),
        (404, UpstreamRefused),
        (408, UpstreamTimeout),
        (422, InvalidRequest),
        (429, RateLimited),
        (500, UpstreamFailed),
        (503, UpstreamFailed),
        (504, UpstreamTimeout),
        (529, UpstreamFailed),
    ],
)
def test_statuses(status: int, kind: type[TrunklineError]) -> None:
    error = failure(Head(status, {"retry-after": "7"}), "because")
    assert type(error) is kind
    assert "because" in error.message
    if status in (429, 503):
        assert error.retry_after == 7


def test_an_error_without_words_names_its_status() -> None:
    assert "HTTP 500" in failure(Head(500, {}), "").message


def test_retry_after_as_a_date_counts_from_the_answers_own() -> None:
    headers = {
        "retry-after": "Sat, 21 Nov 2026 06:00:30 GMT",
        "date": "Sat, 21 Nov 2026 06:00:00 GMT",
    }
    assert retry_after_of(Head(429, headers)) == 30
    assert retry_after_of(Head(429, {"retry-after": "soon", "date": headers["date"]})) is None
    assert retry_after_of(Head(429, {"retry-after": "soon"})) is None
    assert retry_after_of(Head(429, {"retry-after": "1.5"})) == 1.5


def test_a_date_in_the_oldest_form() -> None:
    """RFC 9110, 5.6.7: recipients must read asctime's as well."""
    headers = {"retry-after": "Sat Nov 21 06:00:30 2026", "date": "Sat, 21 Nov 2026 06:00:00 GMT"}
    assert retry_after_of(Head(429, headers)) == 30


@pytest.mark.parametrize("date", [{}, {"date": "the day before yesterday"}])
def test_retry_after_as_a_date_counts_from_now_where_the_answer_has_none(
    date: dict[str, str],
) -> None:
    until = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    found = retry_after_of(Head(429, {"retry-after": until, **date}))
    assert found == pytest.approx(90, abs=5)
    past = "Sat, 21 Nov 2020 06:00:30 GMT"
    assert retry_after_of(Head(429, {"retry-after": past, **date})) == 0


def test_long_words_are_cut() -> None:
    assert len(failure(Head(500, {}), "x" * 10_000).message) < 1000
