"""llama.cpp spoken to: recorded answers of its own server, and ours read back."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.wire.speaking import JSON, asking, body, head, passed, raw, read, terms
from tests.wire.support import ANSWER, GOLDEN, TIMING, delta, token
from trunkline.core.errors import (
    ContextOverflow,
    InvalidRequest,
    TrunklineError,
    Unsupported,
    UpstreamFailed,
)
from trunkline.core.types import (
    Completed,
    Event,
    Grammar,
    MixedInput,
    RowFinished,
    SamplingParams,
    TextInput,
    TokensInput,
    Usage,
)
from trunkline.wire.llamacpp.client import COMPLETION
from trunkline.wire.llamacpp.completion import decode_completion

PROMPT = TextInput("Hello")


def golden(name: str) -> bytes:
    return (GOLDEN / "llamacpp" / name).read_bytes()


def test_a_recorded_stream() -> None:
    said = read(COMPLETION, golden("stream.txt"), request=asking(PROMPT))
    assert (said.text, said.token_ids, said.finish) == ("!Hello!", [0, 634, 0], "length")
    assert said.usage == Usage(1, 3)
    assert [name for name, _ in said.logprobs] == ["!", "Hello", "!"]


def test_recorded_whole_answers() -> None:
    said = read(COMPLETION, golden("completion.json"), JSON, asking(PROMPT))
    assert (said.finish, said.usage.completion_tokens, len(said.logprobs)) == ("length", 4, 4)
    request = asking(PROMPT, stop=("lo!",))
    said = read(COMPLETION, golden("stop_word.json"), JSON, request)
    assert (said.finish, said.stop) == ("stop", "lo!")
    shown = read(
        COMPLETION, golden("stop_word.json"), JSON, asking(PROMPT, stop=("lo!",), include_stop=True)
    )
    assert shown.text == said.text + "lo!"


@pytest.mark.parametrize("stream", [True, False])
def test_what_our_server_says_is_what_is_heard(stream: bool) -> None:
    sent = {"prompt": "Hello", "stream": stream, "n_probs": 1, "return_tokens": True}
    renderer = decode_completion(json.dumps(sent).encode()).renderer(ANSWER)
    events: list[Event] = [
        delta("Hé", token("Hé", 3, top=1)),
        delta(" 🌍", token(" 🌍", 4, top=1)),
        RowFinished("r", 0, "length"),
        Completed("r", Usage(7, 2, 5), TIMING),
    ]
    data = renderer.take(0, events) + renderer.finish(Usage(7, 2, 5), TIMING)
    said = read(COMPLETION, data, "text/event-stream" if stream else JSON, asking(PROMPT))
    assert (said.text, said.token_ids, said.finish) == ("Hé 🌍", [3, 4], "length")
    assert said.logprobs == [("Hé", -0.5), (" 🌍", -0.5)]
    assert said.usage == Usage(7, 2, 5)


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "exceed_context_size_error", ContextOverflow),
        (400, "invalid_request_error", InvalidRequest),
        (500, "server_error", UpstreamFailed),
        (503, "unavailable_error", UpstreamFailed),
    ],
)
def test_errors(status: int, kind: str, expected: type[TrunklineError]) -> None:
    error = {"error": {"code": status, "message": "because", "type": kind}}
    data = json.dumps(error).encode()
    assert type(COMPLETION.error(head(JSON, status), data)) is expected
    for reading in (
        COMPLETION.reader(asking(PROMPT), terms(), head()),
        COMPLETION.relay(raw("llamacpp.completion", {}), terms(), head()),
    ):
        with pytest.raises(ContextOverflow if expected is ContextOverflow else UpstreamFailed):
            reading.feed(b"data: %b\n\n" % data)


def test_a_stream_that_is_cut_off() -> None:
    half = golden("stream.txt").split(b"\n\n")[0] + b"\n\n"
    for reading in (
        COMPLETION.reader(asking(PROMPT), terms(), head()),
        COMPLETION.relay(raw("llamacpp.completion", {}), terms(), head()),
    ):
        reading.feed(half)
        with pytest.raises(UpstreamFailed, match="cut off"):
            reading.end()


def test_what_is_sent() -> None:
    request = asking(
        PROMPT,
        sampling=SamplingParams(temperature=0.0, max_tokens=9, logit_bias=((5, -1.0),), logprobs=0),
        stop=("END",),
        grammar=Grammar("gbnf", 'root ::= "a"'),
    )
    outgoing = COMPLETION.encode(request, terms())
    assert outgoing.path == "/completion"
    assert body(outgoing) == {
        "prompt": "Hello",
        "stream": True,
        "return_tokens": True,
        "temperature": 0.0,
        # Neutral, not the server's defaults.
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "n_predict": 9,
        "seed": -1,
        "stop": ["END"],
        "logit_bias": [[5, -1.0]],
        "n_probs": 1,
        "grammar": 'root ::= "a"',
    }


@pytest.mark.parametrize(
    ("source", "sent"),
    [(TokensInput((1, 2)), [1, 2]), (MixedInput(("a", (1, 2), "b")), ["a", 1, 2, "b"])],
)
def test_prompts_of_tokens(source: Any, sent: Any) -> None:
    assert body(COMPLETION.encode(asking(source), terms()))["prompt"] == sent


@pytest.mark.parametrize(
    ("grammar", "schema"),
    [
        (Grammar("json_object"), {"type": "object"}),
        (Grammar("json_schema", '{"type":"array"}'), {"type": "array"}),
    ],
)
def test_schemas(grammar: Grammar, schema: Any) -> None:
    sent = body(COMPLETION.encode(asking(PROMPT, grammar=grammar), terms()))
    assert sent["json_schema"] == schema


def test_what_it_has_not() -> None:
    with pytest.raises(Unsupported, match="conversations"):
        COMPLETION.encode(asking(), terms())
    with pytest.raises(Unsupported, match="'n'"):
        COMPLETION.encode(asking(PROMPT, n=2), terms())
    with pytest.raises(Unsupported, match="special tokens"):
        COMPLETION.encode(asking(TextInput("x", add_special_tokens=False)), terms())


def test_recorded_answers_pass_as_they_are_but_for_the_models_name() -> None:
    sent = {"prompt": "Hello", "model": "alias", "dry_multiplier": 0.5}
    request = raw("llamacpp.completion", sent)
    assert body(COMPLETION.patch(request, terms(model="real"))) == sent | {"model": "real"}
    nameless = raw("llamacpp.completion", {"prompt": "x"})
    assert body(COMPLETION.patch(nameless, terms())) == {"prompt": "x"}
    data, usage = passed(COMPLETION, request, golden("stream.txt"))
    assert data == golden("stream.txt").replace(b'"model":"m"', b'"model":"alias"')
    assert usage == Usage(1, 3)
    whole, usage = passed(COMPLETION, raw("x", {}, asked_model="m"), golden("prompts.json"), JSON)
    assert whole == golden("prompts.json")
    answers = json.loads(whole)
    assert len(answers) == 3
    assert usage.completion_tokens == sum(one["tokens_predicted"] for one in answers)


@pytest.mark.parametrize(("context", "last"), [(4096, 4096), (0, 8192)])
def test_penalties_look_at_everything(context: int, last: int) -> None:
    """llama.cpp's server refuses the -1 that its programs take for the whole context."""
    request = asking(PROMPT, sampling=SamplingParams(repetition_penalty=1.1))
    limits = msgspec.structs.replace(terms(), context_length=context)
    assert body(COMPLETION.encode(request, limits))["repeat_last_n"] == last


def test_neutral_values_that_were_given_and_what_has_no_place() -> None:
    given = ("temperature", "top_p", "typical_p", "top_k", "repetition_penalty")
    request = asking(PROMPT, explicit=given, notes={"user": "u", "store": True})
    outgoing = COMPLETION.encode(request, terms())
    assert outgoing.dropped == ("user", "store")
    sent = json.loads(outgoing.body)
    assert (sent["temperature"], sent["top_k"], sent["repeat_penalty"]) == (1.0, 0, 1.0)
