from __future__ import annotations

import pytest

from trunkline.wire.codec import Codec
from trunkline.wire.llamacpp import lookups as llamacpp
from trunkline.wire.sglang import generate as sglang
from trunkline.wire.shared import SHARED, choose, is_for_ollama
from trunkline.wire.tgi import generate as tgi
from trunkline.wire.tgi import lookups as tgi_lookups
from trunkline.wire.vllm import lookups as vllm


@pytest.mark.parametrize(
    ("path", "body", "codec"),
    [
        ("/tokenize", b'{"prompt": "x"}', vllm.TOKENIZE),
        ("/tokenize", b'{"model": "m", "messages": []}', vllm.TOKENIZE),
        ("/tokenize", b'{"inputs": "x"}', tgi_lookups.TOKENIZE),
        ("/tokenize", b'{"content": "x"}', llamacpp.TOKENIZE),
        # Names within values say nothing.
        ("/tokenize", b'{"a": {"inputs": "\\"prompt\\""}, "content": 1}', llamacpp.TOKENIZE),
        ("/tokenize", b'{"\\u0069nputs": "x"}', tgi_lookups.TOKENIZE),
        ("/tokenize", b"{}", vllm.TOKENIZE),
        ("/detokenize", b'{"tokens": [1]}', vllm.DETOKENIZE),
        ("/generate", b'{"inputs": "x", "parameters": {"text": 1}}', tgi.GENERATE),
        ("/generate", b'{"text": "x"}', sglang.GENERATE),
        ("/generate", b'{"sampling_params": {}, "input_ids": [1]}', sglang.GENERATE),
        ("/generate", b"{}", tgi.GENERATE),
    ],
)
def test_fields_tell_the_dialect(path: str, body: bytes, codec: Codec) -> None:
    assert choose(SHARED["POST", path], body) is codec


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"text": }'])
def test_what_cannot_be_read_has_a_dialect_too(body: bytes) -> None:
    for shared in SHARED.values():
        assert choose(shared, body) is shared.otherwise


def test_what_shares_a_path_asks_or_looks_up_alike() -> None:
    for shared in SHARED.values():
        assert all(c.looks_up is shared.otherwise.looks_up for c in shared.by_field.values())


@pytest.mark.parametrize(
    ("accept", "ollama"),
    [
        # curl, node's fetch, httpx, requests; Go's client sends none.
        ("*/*", True),
        ("", True),
        # axios.
        ("application/json, text/plain, */*", True),
        ("Application/JSON", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
    ],
)
def test_who_hears_that_ollama_runs(accept: str, ollama: bool) -> None:
    assert is_for_ollama(accept) is ollama
