"""Awkward answers in the dialects that know text alone and have no client package of their own.

How a client puts the text together, and what tells it of a failure behind the first byte:

- llama.cpp: tools/server/README.md and server-context.cpp of ggml-org/llama.cpp b11549 (recorded
  in golden/llamacpp/stream.txt): `content` of each event; an event with `error`.
- KServe: docs/protocol/extension_generate.md of triton-inference-server/server e1db8a6
  (2026-08-19): `text_output` of each event; an event with `error`.
- SGLang: docs/basic_usage/send_request.md and entrypoints/http_server.py of sgl-project/sglang
  001067f (2026): `text` of an event is all the text so far; an event with `error`.
- TGI: router/src/lib.rs of huggingface/text-generation-inference db931fc (2026-01-08): text of
  each token that is not special, and all of it in the last event; `error` and `error_type`.

Read 2026-11-21.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.wire.transcripts import CALLS, TEXTS, Case, broken, rendered
from trunkline.core.errors import EngineCrashed
from trunkline.core.types import Json
from trunkline.wire.codec import Codec
from trunkline.wire.kserve.generate import GENERATE_STREAM as KSERVE
from trunkline.wire.llamacpp.completion import COMPLETION as LLAMACPP
from trunkline.wire.sglang.generate import GENERATE as SGLANG
from trunkline.wire.tgi.generate import GENERATE_STREAM as TGI


class Dialect(NamedTuple):
    """A stream of plain text."""

    codec: Codec
    body: Json
    # The text that the events say.
    said: Callable[[list[Any]], str]
    # What the last event says of a failure.
    failure: Callable[[Any], Any]
    path: Json | None = None


def _of_tokens(events: list[Any]) -> str:
    said = "".join(one["token"]["text"] for one in events if not one["token"]["special"])
    whole = events[-1]["generated_text"]
    # Tokens that hold a part of a character say so by a replacement.
    assert said.replace("\ufffd", "") == whole or whole in said
    return str(whole)


DIALECTS = {
    "llamacpp": Dialect(
        LLAMACPP,
        {"prompt": "Hi", "stream": True},
        lambda events: "".join(one["content"] for one in events),
        lambda event: event["error"]["message"],
    ),
    "kserve": Dialect(
        KSERVE,
        {"text_input": "Hi"},
        lambda events: "".join(one["text_output"] for one in events),
        lambda event: event["error"],
        {"model": "m"},
    ),
    "sglang": Dialect(
        SGLANG,
        {"text": "Hi", "stream": True},
        lambda events: str(events[-1]["text"]),
        lambda event: event["error"]["message"],
    ),
    "tgi": Dialect(
        TGI,
        {"inputs": "Hi"},
        _of_tokens,
        lambda event: event["error"],
    ),
}
EACH = pytest.mark.parametrize("name", DIALECTS)


def events(data: bytes) -> list[Any]:
    """The data of each event, for a reader that takes NEL and U+2028 for ends of lines too."""
    found = []
    for line in data.decode().splitlines():
        if line:
            assert line.startswith("data:")
            found.append(line.removeprefix("data:").strip())
    return [json.loads(one) for one in found if one != "[DONE]"]


@EACH
@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case.name)
def test_text(name: str, case: Case) -> None:
    dialect = DIALECTS[name]
    data = rendered(dialect.codec, dialect.body, case, path=dialect.path)
    assert dialect.said(events(data)) == case.text


@EACH
@pytest.mark.parametrize("case", CALLS, ids=lambda case: case.name)
def test_calls_break_nothing(name: str, case: Case) -> None:
    """No tools can be sent here; an answer that has some all the same shows its text."""
    dialect = DIALECTS[name]
    data = rendered(dialect.codec, dialect.body, case, path=dialect.path)
    assert case.text in dialect.said(events(data))


@EACH
def test_an_error_behind_the_first_byte(name: str) -> None:
    dialect = DIALECTS[name]
    error = EngineCrashed("The engine ended: 漢 \u2028.")
    data = broken(dialect.codec, dialect.body, error, path=dialect.path)
    *before, last = events(data)
    assert "so far" in json.dumps(before)
    assert dialect.failure(last).endswith(error.message)
