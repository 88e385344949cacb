from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.support import ANSWER, GOLDEN, TIMING, USAGE, delta, end, is_refused_here, token
from trunkline.core.errors import InvalidRequest, TrunklineError, Unprocessable
from trunkline.core.types import PromptToken, PromptTokens, Request, RowFinished, TextInput
from trunkline.wire.codec import Codec, Incoming
from trunkline.wire.tgi.generate import (
    GENERATE,
    GENERATE_STREAM,
    ROOT,
    GenerateAsk,
    timing_headers,
)


def ask(codec: Codec = GENERATE, **body: Any) -> GenerateAsk:
    body.setdefault("inputs", "Test request")
    decoded = codec.decode(Incoming(json.dumps(body).encode()))
    assert isinstance(decoded, GenerateAsk)
    return decoded


def request(**parameters: Any) -> Request:
    return ask(parameters=parameters).requests("r", "m", "t")[0]


def whole(asked: GenerateAsk, *events: Any) -> Any:
    renderer = asked.renderer(ANSWER)
    assert renderer.take(0, events) == b""
    return json.loads(renderer.finish(USAGE, TIMING))


def test_all_parameters() -> None:
    made = request(
        best_of=3,
        temperature=0.5,
        repetition_penalty=1.2,
        frequency_penalty=-0.1,
        top_k=10,
        top_p=0.9,
        typical_p=0.8,
        max_new_tokens=20,
        stop=["a", "b"],
        truncate=5,
        details=True,
        top_n_tokens=4,
        watermark=False,
        decoder_input_details=False,
        adapter_id=None,
    )
    assert made.input == TextInput("Test request")
    assert (made.n, made.stop, made.include_stop, made.truncate_prompt) == (3, ("a", "b"), True, 5)
    assert (made.tenant, made.overflow) == ("t", "error")
    sampling = made.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.5, 10, 0.9)
    assert (sampling.typical_p, sampling.repetition_penalty) == (0.8, 1.2)
    assert (sampling.frequency_penalty, sampling.max_tokens, sampling.logprobs) == (-0.1, 20, 4)


@pytest.mark.parametrize(
    ("parameters", "temperature"),
    [
        # router/src/lib.rs: without `parameters` the default samples, with them it does not.
        (None, 1.0),
        ({}, 0.0),
        ({"do_sample": False}, 0.0),
        ({"do_sample": True}, 1.0),
        ({"do_sample": True, "temperature": 0.3}, 0.3),
        # utils/tokens.py: what changes the distribution samples by itself; 1.0 does not.
        ({"temperature": 0.3}, 0.3),
        ({"temperature": 1.0}, 0.0),
        ({"top_k": 5}, 1.0),
        ({"top_p": 0.5}, 1.0),
        ({"typical_p": 0.5}, 1.0),
        ({"repetition_penalty": 1.1}, 0.0),
    ],
)
def test_when_tokens_are_drawn(parameters: Any, temperature: float) -> None:
    body = {} if parameters is None else {"parameters": parameters}
    assert ask(**body).requests("r", "m", "")[0].sampling.temperature == temperature


def test_seed_is_told_where_it_says_something() -> None:
    events = (delta("a", token("a", 1)), RowFinished("r", 0, "length"))
    drawn = ask(parameters={"details": True, "do_sample": True})
    seed = drawn.requests(ANSWER.id, "m", "")[0].sampling.seed
    assert seed is not None
    assert whole(drawn, *events)["details"]["seed"] == seed
    assert drawn.requests("another", "m", "")[0].sampling.seed != seed
    given = ask(parameters={"details": True, "do_sample": True, "seed": 42})
    assert whole(given, *events)["details"]["seed"] == 42
    greedy = ask(parameters={"details": True, "seed": 42})
    assert whole(greedy, *events)["details"]["seed"] is None


def test_no_limit_unless_asked() -> None:
    # TGI 3 generates until the context is full; older ones stopped at 100, and before at 20.
    assert request().sampling.max_tokens is None


@pytest.mark.parametrize(
    ("grammar", "kind", "value"),
    [
        ({"type": "regex", "value": "a+"}, "regex", "a+"),
        ({"type": "json", "value": {"properties": {}}}, "json_schema", {"properties": {}}),
        ({"type": "json", "value": '{"type": "object"}'}, "json_schema", {"type": "object"}),
        ({"type": "json_object", "value": {"type": "array"}}, "json_schema", {"type": "array"}),
        (
            {"type": "json_schema", "value": {"name": "n", "schema": {"type": "null"}}},
            "json_schema",
            {"type": "null"},
        ),
    ],
)
def test_grammars(grammar: Any, kind: str, value: Any) -> None:
    made = request(grammar=grammar).grammar
    assert made is not None
    assert made.kind == kind
    if kind == "regex":
        assert made.value == value
    else:
        schema = json.loads(made.value)
        schema.pop("x-guidance")
        assert schema == value


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"temperature": 0}, "`temperature` must be strictly positive"),
        ({"temperature": -1.0}, "`temperature` must be strictly positive"),
        ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
        ({"frequency_penalty": 2.5}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        ({"top_p": 1.0}, "`top_p` must be > 0.0 and < 1.0"),
        ({"typical_p": 0}, "`typical_p` must be > 0.0 and < 1.0"),
        ({"top_k": 0}, "`top_k` must be strictly positive"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
        ({"truncate": 0}, "`truncate` must be strictly positive"),
        ({"stop": ["x"] * 17}, "`stop` supports up to 16 stop sequences. Given: 17"),
        ({"stop": [""]}, "`stop` must not hold an empty sequence"),
        ({"top_n_tokens": 21}, "`top_n_tokens` must be >= 0 and <= 20. Given: 21"),
        ({"best_of": 2}, "you must use sampling when `best_of` is > 1"),
        ({"best_of": 0}, "`best_of` must be > 0 and <= 128. Given: 0"),
        ({"best_of": 2, "do_sample": True, "seed": 1}, "`seed` must not be set"),
        ({"seed": 1 << 64}, "`seed` must fit 64 bits"),
        ({"grammar": {"type": "lark", "value": "x"}}, "unknown type 'lark'"),
        ({"grammar": {"type": "json"}}, "`parameters.grammar.value` is missing"),
    ],
)
def test_what_is_wrong_is_told_in_tgis_words(parameters: Any, words: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        ask(parameters=parameters)
    assert words in caught.value.message
    body = json.loads(GENERATE.error(caught.value))
    assert body["error_type"] == "validation"
    assert body["error"].startswith("Input validation error: ")
    assert GENERATE.status(caught.value) == 422


@pytest.mark.parametrize("name", ["watermark", "adapter_id"])
def test_what_is_not_there_is_refused_by_name(name: str) -> None:
    is_refused_here(ask(parameters={name: "a" if name == "adapter_id" else True}), name)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"inputs": 1}', b'{"inputs": "x", "parameters": {"top_k": 1e400}}']
)
def test_malformed_bodies(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        GENERATE.decode(Incoming(body))
    assert GENERATE.status(caught.value) == 422


def test_details_of_the_prompt() -> None:
    asked = ask(parameters={"decoder_input_details": True, "best_of": 2, "do_sample": True})
    (made,) = asked.requests("r", "m", "")
    assert (made.prompt_logprobs, made.sampling.logprobs) == (0, 0)
    told = PromptTokens("r", (PromptToken("<s>", b"<s>", 1), PromptToken("a", b"a", 2, -0.5, 3)))
    rows = [delta("x", token("x", 5, -float(row)), row=row) for row in (0, 1)]
    details = whole(asked, told, *rows, end(row=0), end(row=1))["details"]
    prefill = [
        {"id": 1, "text": "<s>", "logprob": None},
        {"id": 2, "text": "a", "logprob": -0.5},
    ]
    assert details["prefill"] == prefill
    assert details["best_of_sequences"][0]["prefill"] == prefill
    assert request().prompt_logprobs is None


def test_streams_refuse_what_cannot_be_streamed() -> None:
    with pytest.raises(Unprocessable, match="`best_of` != 1"):
        ask(GENERATE_STREAM, parameters={"best_of": 2, "do_sample": True})
    with pytest.raises(Unprocessable, match="when streaming tokens"):
        ask(GENERATE_STREAM, parameters={"decoder_input_details": True})
    with pytest.raises(Unprocessable, match="`inputs` cannot be empty"):
        ask(GENERATE_STREAM, inputs="")


def test_text_alone_needs_no_log_probabilities() -> None:
    asked = ask(parameters={})
    assert asked.requests("r", "m", "")[0].sampling.logprobs is None
    assert whole(asked, delta("Hi"), end()) == {"generated_text": "Hi"}


def golden(name: str) -> Any:
    expected = json.loads((GOLDEN / "tgi" / name).read_text())
    # The Python client writes null for what TGI leaves out.
    details = expected["details"]
    expected["details"] = {key: details[key] for key in details if details[key] is not None}
    return expected


def test_whole_answer_that_a_stop_sequence_ended() -> None:
    expected = golden("generate_stop.json")
    asked = ask(
        parameters={
            "details": True,
            "return_full_text": True,
            "stop": ["test"],
            "temperature": 0.5,
            "seed": 0,
            "max_new_tokens": 10,
        }
    )
    tokens = [token(t["text"], t["id"], t["logprob"]) for t in expected["details"]["tokens"]]
    events = [delta(one.token, one) for one in tokens]
    assert whole(asked, *events, RowFinished("r", 0, "stop", "test")) == expected


def test_whole_answer_that_ended_by_itself() -> None:
    expected = golden("generate_eos.json")
    expected["details"]["prefill"] = []
    expected["generated_text"] = " To sell things."
    asked = ask(parameters={"details": True, "do_sample": True, "seed": 0})
    *shown, last = [token(t["text"], t["id"], t["logprob"]) for t in expected["details"]["tokens"]]
    assert whole(asked, *(delta(one.token, one) for one in shown), end(last)) == expected


def test_best_of_gives_the_most_probable_first() -> None:
    asked = ask(parameters={"best_of": 3, "do_sample": True, "details": True, "top_n_tokens": 2})
    rows = [("worst", -3.0), ("best", -0.1), ("middle", -1.0)]
    answer = whole(
        asked,
        *(delta(text, token(text, i, p, top=2), row=i) for i, (text, p) in enumerate(rows)),
        *(RowFinished("r", i, "length") for i in range(3)),
    )
    assert answer["generated_text"] == "best"
    others = answer["details"]["best_of_sequences"]
    assert [one["generated_text"] for one in others] == ["worst", "middle"]
    assert [one["finish_reason"] for one in others] == ["length", "length"]
    assert answer["details"]["top_tokens"] == [
        [
            {"id": 1, "text": "best", "logprob": -0.1, "special": False},
            {"id": 901, "text": "alt1", "logprob": -1.1, "special": False},
        ]
    ]


def test_root_gives_a_list_with_the_prompt_in_front() -> None:
    asked = ask(ROOT, parameters={})
    assert not asked.stream
    assert whole(asked, delta("!"), end()) == [{"generated_text": "Test request!"}]
    bare = ask(ROOT, parameters={"return_full_text": False})
    assert whole(bare, delta("!"), end()) == [{"generated_text": "!"}]
    assert ask(ROOT, stream=True).stream


def test_headers_are_in_milliseconds() -> None:
    lines = timing_headers(USAGE, TIMING).decode().split("\r\n")
    found = dict(line.split(": ") for line in lines if line)
    assert found == {
        "x-compute-type": "trunkline",
        "x-compute-time": "1.750000000",
        "x-total-time": "1750",
        "x-validation-time": "0",
        "x-queue-time": "500",
        "x-inference-time": "1250",
        "x-time-per-token": "416",
        "x-prompt-tokens": "7",
        "x-generated-tokens": "3",
    }


def test_errors_of_unknown_kinds_keep_their_own() -> None:
    error = TrunklineError("x")
    assert json.loads(GENERATE.error(error))["error_type"] == "generation"
