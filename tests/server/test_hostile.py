"""Bodies that nobody means well. Each gets a 4xx, and the server goes on."""

from __future__ import annotations

import json

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.support import CHAT, HELLO, running

MEGABYTES = b"x" * 10_000_000


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b"[" * 1_000_000,
        b'{"messages":' + b"[" * 1_000_000,
        b'{"prompt":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
        b'{"prompt": [' + b"9" * 1_000_000 + b"]}",
        b'{"prompt": "\xff\xfe"}',
        b'{"prompt": "\\ud83d", "messages": [{"role": "user", "content": "\\ud83d"}]}',
        b'{"prompt": "x", "temperature": 1e999, "messages": []}',
        b'{"prompt": {"a": "b"}, "messages": {"a": "b"}}',
        b'{"chat_template_kwargs": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
        MEGABYTES,
        b'{"model": "'
        + MEGABYTES
        + b'", "prompt": "x", "messages": [{"role":"user","content":""}]}',
        b'{"' + MEGABYTES + b'": 1}',
        b'{"prompt": ["' + MEGABYTES + b'", 1], "messages": [{"role": "' + MEGABYTES + b'"}]}',
    ],
    ids=range(16),
)
async def test_hostile_bodies(path: str, body: bytes) -> None:
    async with running() as one:
        client = await one.connect()
        seen = await client.ask("POST", path, body)
        assert 400 <= seen.status < 500
        assert len(seen.body) < 2000
        assert seen.json()["error"]["message"]
        assert (await client.ask("POST", CHAT, HELLO)).status == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    [
        "model",
        "messages",
        "prompt",
        "n",
        "stop",
        "stream",
        "stream_options",
        "logit_bias",
        "seed",
        "temperature",
        "tools",
        "tool_choice",
        "logprobs",
        "chat_template_kwargs",
        "max_tokens",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(names, json_values, max_size=4), min_size=1, max_size=5))
def test_any_json_is_answered(bodies: list[dict[str, object]]) -> None:
    async def scenario() -> None:
        async with running() as one:
            client = await one.connect()
            for body in bodies:
                for path in (CHAT, "/v1/completions"):
                    data = json.dumps(HELLO | {"prompt": "x"} | body).encode()
                    assert (await client.ask("POST", path, data)).status in (200, 400, 404)

    uvloop.run(scenario())
