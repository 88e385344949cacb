"""Triton's generate extension spoken to: its published answers, and ours read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.speaking import JSON, asking, body, head, passed, raw, read, terms
from tests.wire.support import ANSWER, GOLDEN, TIMING, delta
from trunkline.core.errors import ContextOverflow, Unsupported, UpstreamFailed, UpstreamRefused
from trunkline.core.types import Completed, Event, RowFinished, SamplingParams, TextInput, Usage
from trunkline.wire.codec import Incoming
from trunkline.wire.kserve.client import GENERATE
from trunkline.wire.kserve.generate import GENERATE as WHOLE
from trunkline.wire.kserve.generate import GENERATE_STREAM as STREAM

PROMPT = TextInput("client input")


def golden(name: str) -> bytes:
    return (GOLDEN / "kserve" / name).read_bytes()


def _event(text: str, **more: Any) -> bytes:
    answer = {"model_name": "m", "model_version": "1", "text_output": text} | more
    return b"data: %b\n\n" % json.dumps(answer, separators=(",", ":")).encode()


def test_a_published_answer() -> None:
    said = read(GENERATE, golden("generate.json"), JSON, asking(PROMPT))
    assert (said.text, said.finish) == ("model output", "stop")


@pytest.mark.parametrize("stream", [True, False])
def test_what_our_server_says_is_what_is_heard(stream: bool) -> None:
    outgoing = GENERATE.encode(
        asking(PROMPT, sampling=SamplingParams(max_tokens=2)),
        terms(*(() if stream else ("stream",))),
    )
    codec = STREAM if stream else WHOLE
    ask = codec.decode(Incoming(outgoing.body, {"model": "m"}))
    (request,) = ask.requests("r", "m", "")  # type: ignore[union-attr]
    assert request.sampling.max_tokens == 2
    renderer = ask.renderer(ANSWER)  # type: ignore[union-attr]
    events: list[Event] = [
        delta("Hé"),
        delta(" 🌍"),
        RowFinished("r", 0, "length"),
        Completed("r", Usage(7, 2), TIMING),
    ]
    data = b"".join(renderer.take(0, [event]) for event in events)
    data += renderer.finish(Usage(7, 2), TIMING)
    said = read(GENERATE, data, "text/event-stream" if stream else JSON, asking(PROMPT))
    assert (said.text, said.finish, said.usage) == ("Hé 🌍", "length", Usage(7, 2))


def test_without_counts_events_are_counted() -> None:
    said = read(GENERATE, _event("a") + _event("b"), request=asking(PROMPT))
    assert (said.text, said.usage) == ("ab", Usage(0, 2))


def test_stop_strings_hold_where_the_model_knows_none() -> None:
    data = _event("a E") + _event("ND") + _event(" more")
    said = read(GENERATE, data, request=asking(PROMPT, stop=("END",)))
    assert (said.text, said.finish, said.stop) == ("a ", "stop", "END")


def test_errors() -> None:
    assert type(GENERATE.error(head(JSON, 404), b'{"error":"unknown model"}')) is UpstreamRefused
    assert type(GENERATE.error(head(JSON, 500), golden("error.json"))) is UpstreamFailed
    data = b'data: {"error":"prompt length 9 exceeds maximum input length 8"}\n\n'
    for reading in (
        GENERATE.reader(asking(PROMPT), terms(), head()),
        GENERATE.relay(raw("kserve.generate", {}), terms(), head()),
    ):
        with pytest.raises(ContextOverflow):
            reading.feed(data)
    empty = GENERATE.reader(asking(PROMPT), terms(), head())
    with pytest.raises(UpstreamFailed, match="empty"):
        empty.end()


def test_an_error_at_the_end_without_an_empty_line_behind_it() -> None:
    reading = GENERATE.reader(asking(PROMPT), terms(), head())
    reading.feed(_event("a") + b'data: {"error":"oops"}')
    with pytest.raises(UpstreamFailed, match="oops"):
        reading.end()


def test_one_body_for_both_models() -> None:
    request = asking(
        PROMPT,
        sampling=SamplingParams(temperature=0.5, seed=4, max_tokens=9, min_p=0.1),
        stop=("END",),
    )
    outgoing = GENERATE.encode(request, terms(model="my model"))
    assert outgoing.path == "/v2/models/my%20model/generate_stream"
    sent = body(outgoing)
    parameters = json.loads(sent.pop("sampling_parameters"))
    assert parameters == {
        "temperature": 0.5,
        "seed": 4,
        "max_tokens": 9,
        "min_p": 0.1,
        "stop": ["END"],
    }
    assert sent["random_seed"] == 4
    # Lists are no parameters there.
    assert all(isinstance(value, str | int | float) for value in sent.values())


def test_what_it_has_not() -> None:
    with pytest.raises(Unsupported, match="conversations"):
        GENERATE.encode(asking(), terms())
    with pytest.raises(Unsupported, match="logprobs"):
        GENERATE.encode(asking(PROMPT, sampling=SamplingParams(logprobs=0)), terms())


def test_requests_and_answers_pass_as_they_are_but_for_the_name() -> None:
    sent = json.loads(golden("generate_request.json"))
    outgoing = GENERATE.patch(raw("kserve.generate", sent, stream=False), terms(model="real"))
    assert (outgoing.path, body(outgoing)) == ("/v2/models/real/generate", sent)
    data = _event("a") + _event("b", num_input_tokens=3, num_output_tokens=2)
    renamed, usage = passed(GENERATE, raw("kserve.generate", sent), data)
    assert renamed == data.replace(b'"model_name":"m"', b'"model_name":"alias"')
    assert usage == Usage(3, 2)


def test_neutral_values_that_were_given_and_what_has_no_place() -> None:
    given = ("temperature", "top_p", "typical_p", "top_k", "repetition_penalty")
    request = asking(PROMPT, explicit=given, notes={"user": "u", "store": True})
    outgoing = GENERATE.encode(request, terms())
    assert outgoing.dropped == ("user", "store")
    sent = json.loads(outgoing.body)
    assert (sent["temperature"], sent["top_p"]) == (1.0, 1.0)
    assert "top_k" not in sent
