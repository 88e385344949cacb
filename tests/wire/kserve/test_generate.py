from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.support import GOLDEN, TIMING, USAGE, delta, end, is_refused_here
from trunkline.core.errors import (
    EngineCrashed,
    InvalidRequest,
    ModelNotFound,
    QueueFull,
    Unsupported,
)
from trunkline.core.types import Request, RowFinished, SamplingParams, TextInput
from trunkline.wire.codec import Answer, Codec, Incoming
from trunkline.wire.kserve.generate import GENERATE, GENERATE_STREAM, GenerateAsk


def golden(name: str) -> Any:
    return json.loads((GOLDEN / "kserve" / name).read_text())


def ask(codec: Codec = GENERATE, /, **body: Any) -> GenerateAsk:
    body.setdefault("text_input", "In")
    path = {"model": body.pop("model", "mymodel")}
    decoded = codec.decode(Incoming(json.dumps(body).encode(), path=path))
    assert isinstance(decoded, GenerateAsk)
    return decoded


def request(**body: Any) -> Request:
    (made,) = ask(**body).requests("r", "m", "t")
    return made


def answered(asked: GenerateAsk, *events: Any) -> bytes:
    renderer = asked.renderer(Answer("req-1", asked.model, 0, "fp"))
    sent = b"".join(renderer.take(0, [event]) for event in events)
    return sent + renderer.finish(USAGE, TIMING)


def parsed(sse: bytes) -> list[Any]:
    parts = sse.decode().split("\n\n")[:-1]
    assert all(part.startswith("data: {") for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def test_published_examples() -> None:
    asked = ask(**golden("generate_request.json"), exclude_input_in_output=True)
    assert asked.model == "mymodel"
    made = asked.requests("r", "m", "")[0]
    assert made.input == TextInput("client input")
    assert made.sampling == SamplingParams(temperature=0.0, max_tokens=16)
    assert json.loads(answered(asked, delta("model output"), end())) == golden("generate.json")


def test_the_input_comes_first_unless_excluded() -> None:
    asked = ask(model="vllm_model", **golden("vllm_request.json"))
    text = "\n\nTriton Inference Server is a server that is used by many"
    assert json.loads(answered(asked, delta(text), end())) == golden("vllm.json")


def test_parameters_of_both_backends_wherever_they_stand() -> None:
    made = request(
        max_tokens="20",
        top_k=5,
        parameters={"temperature": "0.5", "stop_words": ["a", ""], "random_seed": 3, "top_k": 6},
        sampling_parameters=json.dumps({"stop": "b", "top_p": 0.9, "min_tokens": 2, "top_k": 7}),
        bad_words="",
        beam_width=1,
        unknown={"of": "nobody"},
    )
    assert made.sampling == SamplingParams(
        temperature=0.5, top_k=7, top_p=0.9, seed=3, max_tokens=20, min_tokens=2
    )
    assert made.stop == ("b", "a")
    assert (made.overflow, made.tenant) == ("cap", "t")


def test_more_parameters() -> None:
    made = request(
        text_input=["In a list"],
        min_p=0.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        repetition_penalty=1.1,
        seed=-1,
        random_seed=5,
        min_length=3,
        stop_token_ids=[4],
        ignore_eos="true",
        skip_special_tokens=False,
        include_stop_str_in_output=True,
    )
    assert made.input == TextInput("In a list")
    assert made.sampling == SamplingParams(
        min_p=0.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        repetition_penalty=1.1,
        seed=-1,
        max_tokens=16,
        min_tokens=3,
        stop_token_ids=(4,),
        ignore_eos=True,
    )
    assert made.include_stop
    assert not made.skip_special_tokens


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "could not parse"),
        (b"[1]", "object"),
        (b'{"text_input": 1}', "text_input"),
        (b'{"parameters": {}}', "text_input"),
        (b'{"text_input": ["a", "b"]}', "text_input"),
        (b'{"text_input": "a", "parameters": 5}', "parameters"),
        (b'{"text_input": "a", "sampling_parameters": "{"}', "could not parse"),
        (b'{"text_input": "a", "max_tokens": 0}', "max_tokens"),
        (b'{"text_input": "a", "min_tokens": 17}', "min_tokens"),
    ],
)
def test_what_is_wrong_is_told(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        GENERATE.decode(Incoming(body, path={"model": "m"}))
    assert words in caught.value.message
    assert GENERATE.status(caught.value) == 400
    assert json.loads(GENERATE.error(caught.value)).keys() == golden("error.json").keys()


@pytest.mark.parametrize("name", ["image", "n", "beam_width"])
def test_what_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(Unsupported, match=name):
        ask(**{name: 2})


@pytest.mark.parametrize("name", ["bad_words", "return_log_probs", "lora"])
def test_what_another_server_may_go_without(name: str) -> None:
    is_refused_here(ask(**{name: 2}), name)


def test_versions() -> None:
    body = b'{"text_input": "x"}'
    GENERATE.decode(Incoming(body, path={"model": "m", "version": "1"}))
    with pytest.raises(ModelNotFound, match="version 2") as caught:
        GENERATE.decode(Incoming(body, path={"model": "m", "version": "2"}))
    assert GENERATE.status(caught.value) == 404


def test_streams_have_what_is_new() -> None:
    asked = ask(GENERATE_STREAM, id="42", parameters={"stream": True})
    assert asked.stream
    sent = answered(asked, delta("Hi"), delta(""), delta(" 🚂"), end())
    assert [one["text_output"] for one in parsed(sent)] == ["Hi", " 🚂"]
    assert sent.startswith(
        b'data: {"model_name":"mymodel","model_version":"1","text_output":"Hi","id":"42"}\n\n'
    )


def test_a_stream_without_text_has_one_event() -> None:
    asked = ask(GENERATE_STREAM)
    assert [one["text_output"] for one in parsed(answered(asked, end()))] == [""]
    told = ask(GENERATE_STREAM, parameters={"return_finish_reason": True})
    (only,) = parsed(answered(told, end()))
    assert (only["text_output"], only["finish_reason"]) == ("", "stop")


def test_a_stream_of_one_event() -> None:
    (only,) = parsed(answered(ask(GENERATE_STREAM, stream=False), delta("a"), delta("b"), end()))
    assert only["text_output"] == "Inab"
    with pytest.raises(InvalidRequest, match="exclude_input_in_output"):
        ask(GENERATE_STREAM, stream=True, exclude_input_in_output=False)


def test_counts_and_reasons_where_asked_for() -> None:
    wanted = {
        "return_finish_reason": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
    }
    told = {"finish_reason": "length", "num_input_tokens": 7, "num_output_tokens": 3}
    over = RowFinished("r", 0, "length")
    whole = json.loads(answered(ask(**wanted), delta("a"), over))
    assert whole.items() >= told.items()
    first, last = parsed(answered(ask(GENERATE_STREAM, **wanted), delta("a"), over))
    assert first.keys() == {"model_name", "model_version", "text_output"}
    assert last["text_output"] == ""
    assert last.items() >= told.items()


def test_errors_before_and_after_the_first_byte() -> None:
    assert GENERATE.status(QueueFull("full")) == 503
    assert parsed(GENERATE.stream_error(EngineCrashed("gone"))) == [{"error": "gone"}]
