"""Malformed and hostile bodies get a 4xx each, and the server goes on."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.server import Server

GOOD: dict[str, Any] = {"model": "caboose", "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"

BAD_FIELDS: list[dict[str, Any]] = [
    {"temperature": "warm"},
    {"temperature": -1},
    {"temperature": 1e308},
    {"top_p": 0},
    {"top_p": 7},
    {"n": 0},
    {"n": 10**30},
    {"n": 1.5},
    {"max_tokens": -4},
    {"max_tokens": 10**40},
    {"stop": [""]},
    {"stop": {"a": 1}},
    {"stop": ["x"] * 10_000},
    {"logit_bias": {"cat": 1}},
    {"logit_bias": {"1": 1e9}},
    {"logit_bias": {"99999999": 1}},
    {"logit_bias": {str(n): 1 for n in range(100_000)}},
    {"seed": "x"},
    {"seed": 2**200},
    {"messages": []},
    {"messages": "hello"},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": 7, "content": "hi"}]},
    {"messages": [{"content": "hi"}]},
    {"messages": [None]},
    {"messages": [{"role": "user", "content": [{"type": "alien"}]}]},
    {"model": 12},
    {"stream": "yes"},
    {"top_logprobs": 1000, "logprobs": True},
    {"stop_token_ids": [-5]},
    {"stop_token_ids": [10**12]},
    {"priority": "high"},
]

RAW_BODIES: list[bytes] = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"42",
    b'"text"',
    b"\xff\xfe\x00",
    b'{"model": "caboose", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    b'{"model": "caboose", "messages": [{"role": "user", "content": "\\ud800"}]}',
    b'{"model": "caboose", "temperature": NaN, "messages": [{"role": "user", "content": "a"}]}',
    b'{"model": "caboose", "temperature": 1e999, "messages": [{"role": "user", "content": "a"}]}',
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b"[" * 1_000_000,
    b'{"model": "caboose", "messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"model": "caboose", "chat_template_kwargs": '
    + b"[" * 900
    + b"]" * 900
    + b', "messages": 1}',
]


def _still_fine(server: Server) -> None:
    answer = server.post(CHAT, GOOD | {"max_tokens": 2})
    assert answer.status_code == 200, answer.text


def _is_openai_error(response: httpx.Response) -> None:
    assert 400 <= response.status_code < 500, (response.status_code, response.text[:300])
    error = response.json()["error"]
    assert error["message"]
    assert set(error) >= {"message", "type", "param", "code"}


@pytest.mark.parametrize("fields", BAD_FIELDS, ids=lambda fields: json.dumps(fields)[:40])
def test_bad_fields(caboose: Server, fields: dict[str, Any]) -> None:
    _is_openai_error(caboose.post(CHAT, GOOD | fields))
    _still_fine(caboose)


@pytest.mark.parametrize("body", RAW_BODIES, ids=lambda body: repr(body[:30]))
def test_raw_bodies(caboose: Server, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{caboose.url}{CHAT}", content=body, headers=headers, timeout=30)
    _is_openai_error(response)
    _still_fine(caboose)


def test_10_mb_of_text_is_refused_in_good_time(caboose: Server) -> None:
    body = GOOD | {"messages": [{"role": "user", "content": "lorem ipsum " * 900_000}]}
    response = caboose.post(CHAT, body, timeout=60)
    _is_openai_error(response)
    assert "4096" in response.json()["error"]["message"]
    _still_fine(caboose)


def test_10_mb_of_one_letter(caboose: Server) -> None:
    body = GOOD | {"messages": [{"role": "user", "content": "a" * 10_000_000}]}
    _is_openai_error(caboose.post(CHAT, body, timeout=120))
    _still_fine(caboose)


def test_a_body_over_the_limit(caboose: Server) -> None:
    headers = {"content-type": "application/json"}
    response = httpx.post(
        f"{caboose.url}{CHAT}", content=b" " * (64 << 20), headers=headers, timeout=60
    )
    assert response.status_code == 413
    _still_fine(caboose)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", CHAT, 405), ("POST", "/v1/nothing", 404), ("DELETE", "/v1/models", 405)],
)
def test_wrong_routes(caboose: Server, method: str, path: str, status: int) -> None:
    response = httpx.request(method, f"{caboose.url}{path}")
    assert response.status_code == status
    assert response.json()["error"]["message"]
