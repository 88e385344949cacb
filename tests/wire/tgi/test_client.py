"""TGI spoken to: its published answers, and our own server's answers read back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from tests.wire.speaking import JSON, asking, body, head, passed, raw, read, terms
from tests.wire.support import GOLDEN, TIMING, delta, end, token
from trunkline.core.errors import (
    ContextOverflow,
    InvalidRequest,
    RateLimited,
    TrunklineError,
    Unsupported,
    UpstreamFailed,
)
from trunkline.core.types import Grammar, RowFinished, SamplingParams, TextInput, Usage
from trunkline.wire.tgi.answers import GenerateStream, GenerateWhole, Shown
from trunkline.wire.tgi.client import GENERATE

PROMPT = TextInput("Test request")


def _event(text: str, *, special: bool = False, last: str | None = None, **more: Any) -> bytes:
    one = {"id": 5, "text": text, "logprob": -0.5, "special": special}
    said = {"index": 1, "token": one, "generated_text": last, "details": None} | more
    return b"data:%b\n\n" % json.dumps(said).encode()


def _details(reason: str) -> dict[str, Any]:
    return {"finish_reason": reason, "generated_tokens": 3, "seed": None, "input_length": 7}


def test_a_published_answer_that_ends_with_a_stop_sequence() -> None:
    data = (GOLDEN / "tgi" / "generate_stop.json").read_bytes()
    request = asking(PROMPT, stop=(" test",), sampling=SamplingParams(logprobs=0))
    said = read(GENERATE, data, JSON, request)
    assert (said.text, said.finish, said.stop) == (" failed: Error in", "stop", " test")
    assert said.usage.completion_tokens == 5
    assert said.logprobs[0] == (" failed", -2.5839844)


def test_a_published_answer_that_ends_by_itself() -> None:
    data = (GOLDEN / "tgi" / "generate_eos.json").read_bytes()
    said = read(GENERATE, data, JSON, asking(PROMPT))
    assert (said.text, said.finish, said.usage) == (" To sell things.", "stop", Usage(1, 5))


def test_the_published_end_of_a_stream() -> None:
    data = (GOLDEN / "tgi" / "stream_last.txt").read_bytes()
    said = read(GENERATE, data, request=asking(PROMPT))
    assert (said.text, said.finish) == (".", "stop")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("ended", [True, False])
def test_what_our_server_says_is_what_is_heard(stream: bool, ended: bool) -> None:
    rendering: Any = GenerateStream if stream else GenerateWhole
    renderer = rendering(Shown(details=True))
    events = [delta("Hé", token("Hé", 3)), delta(" 🌍", token(" 🌍", 4))]
    last = end(token("</s>", 2)) if ended else RowFinished("r", 0, "length")
    data = renderer.take(0, [*events, last]) + renderer.finish(Usage(7, 3), TIMING)
    request = asking(PROMPT, sampling=SamplingParams(logprobs=0))
    said = read(GENERATE, data, "text/event-stream" if stream else JSON, request)
    assert (said.text, said.token_ids) == ("Hé 🌍", [3, 4])
    assert said.logprobs == [("Hé", -0.5), (" 🌍", -0.5)]
    assert said.finish == ("stop" if ended else "length")
    assert said.usage.completion_tokens == (3 if ended else 2)


def test_a_stop_sequence_over_several_tokens_is_cut() -> None:
    data = _event("a E") + _event("N") + _event("D b", last="a END", details=_details("length"))
    said = read(GENERATE, data, request=asking(PROMPT, stop=("END",)))
    assert (said.text, said.stop, said.finish) == ("a ", "END", "stop")
    kept = asking(PROMPT, stop=("END",), include_stop=True)
    assert read(GENERATE, data, request=kept).text == "a END"


def test_what_might_have_become_a_stop_sequence_is_shown_at_the_end() -> None:
    data = _event("a E") + _event("N", last="a EN", details=_details("length"))
    said = read(GENERATE, data, request=asking(PROMPT, stop=("END",)))
    assert (said.text, said.finish, said.usage) == ("a EN", "length", Usage(7, 3))


@pytest.mark.parametrize(
    ("error_type", "words", "kind"),
    [
        ("overloaded", "Model is overloaded", RateLimited),
        ("generation", "Request failed during generation: CUDA", UpstreamFailed),
        ("validation", "Input validation error: `inputs` cannot be empty", InvalidRequest),
        (
            "validation",
            "Input validation error: `inputs` must have less than 10 tokens. Given: 20",
            ContextOverflow,
        ),
    ],
)
def test_errors(error_type: str, words: str, kind: type[TrunklineError]) -> None:
    data = json.dumps({"error": words, "error_type": error_type}).encode()
    assert type(GENERATE.error(head(JSON, 424), data)) is kind
    for reading in (
        GENERATE.reader(asking(PROMPT), terms(), head()),
        GENERATE.relay(raw("tgi.generate", {}), terms(), head()),
    ):
        with pytest.raises(TrunklineError) as caught:
            reading.feed(b"data:%b\n\n" % data)
        assert type(caught.value) is kind


def test_a_stream_that_is_cut_off() -> None:
    for reading in (
        GENERATE.reader(asking(PROMPT), terms(), head()),
        GENERATE.relay(raw("tgi.generate", {}), terms(), head()),
    ):
        reading.feed(_event("a"))
        with pytest.raises(UpstreamFailed, match="cut off"):
            reading.end()


def test_a_share_of_one_is_not_sent_though_it_was_given() -> None:
    request = replace(asking(PROMPT), explicit=("temperature", "top_p", "typical_p"))
    assert body(GENERATE.encode(request, terms()))["parameters"] == {
        "details": True,
        "return_full_text": False,
        "do_sample": True,
        "temperature": 1.0,
    }


def test_what_is_sent() -> None:
    sampling = SamplingParams(
        temperature=0.5,
        top_k=3,
        top_p=0.9,
        repetition_penalty=1.1,
        seed=4,
        max_tokens=9,
        logprobs=2,
    )
    request = asking(
        PROMPT,
        sampling=sampling,
        stop=("END",),
        truncate_prompt=100,
        grammar=Grammar("regex", "a+"),
    )
    outgoing = GENERATE.encode(request, terms())
    assert outgoing.path == "/generate_stream"
    assert body(outgoing) == {
        "inputs": "Test request",
        "parameters": {
            "details": True,
            "return_full_text": False,
            "do_sample": True,
            "temperature": 0.5,
            "top_k": 3,
            "top_p": 0.9,
            "repetition_penalty": 1.1,
            "stop": ["END"],
            "seed": 4,
            "max_new_tokens": 9,
            "top_n_tokens": 2,
            "truncate": 100,
            "grammar": {"type": "regex", "value": "a+"},
        },
    }


def test_greedy_is_no_sampling_there() -> None:
    request = asking(PROMPT, sampling=SamplingParams(temperature=0.0))
    outgoing = GENERATE.encode(request, terms("stream"))
    assert outgoing.path == "/generate"
    assert body(outgoing)["parameters"]["do_sample"] is False
    assert "temperature" not in body(outgoing)["parameters"]


def test_what_it_has_not() -> None:
    with pytest.raises(Unsupported, match="conversations"):
        GENERATE.encode(asking(), terms())
    with pytest.raises(Unsupported, match="min_p"):
        GENERATE.encode(asking(PROMPT, sampling=SamplingParams(min_p=0.5)), terms())


def test_requests_and_answers_pass_as_they_are() -> None:
    sent = {"inputs": "x", "parameters": {"watermark": True}}
    request = raw("tgi.generate", sent)
    outgoing = GENERATE.patch(request, terms())
    assert (outgoing.path, body(outgoing)) == ("/generate_stream", sent)
    data = _event("a") + _event("b", last="ab")
    assert passed(GENERATE, request, data) == (data, Usage(0, 2))
    data = _event("a") + _event("b", last="ab", details=_details("length"))
    assert passed(GENERATE, request, data) == (data, Usage(7, 3))
    whole = (GOLDEN / "tgi" / "generate_stop.json").read_bytes()
    assert passed(GENERATE, request, whole, JSON)[0] == whole


def test_headers_of_a_whole_answer_tell_its_tokens() -> None:
    answer = head(JSON, x_prompt_tokens="4", x_generated_tokens="6")
    relay = GENERATE.relay(raw("tgi.generate", {}, stream=False), terms(), answer)
    relay.feed(b'{"generated_text":"x"}')
    assert relay.end()[-1].usage == Usage(4, 6)  # type: ignore[union-attr]


def test_neutral_values_that_were_given_and_what_has_no_place() -> None:
    given = ("temperature", "top_p", "typical_p", "top_k", "repetition_penalty")
    request = asking(PROMPT, explicit=given, notes={"user": "u", "store": True})
    outgoing = GENERATE.encode(request, terms())
    assert outgoing.dropped == ("user", "store")
    sent = json.loads(outgoing.body)["parameters"]
    assert (sent["temperature"], sent["repetition_penalty"]) == (1.0, 1.0)
    # "`top_p` must be > 0.0 and < 1.0", its router says; "`top_k` must be strictly positive".
    assert not {"top_p", "typical_p", "top_k"} & set(sent)
