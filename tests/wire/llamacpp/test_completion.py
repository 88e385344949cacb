from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.wire.llamacpp.support import events, golden, same_shape
from tests.wire.support import is_refused_here
from trunkline.core.errors import InvalidRequest, TrunklineError, Unsupported
from trunkline.core.types import (
    Completed,
    Delta,
    Event,
    Grammar,
    LineLimits,
    MixedInput,
    Request,
    RowFinished,
    SamplingParams,
    TextInput,
    Timing,
    TokenLogprob,
    TokensInput,
    Usage,
)
from trunkline.wire.codec import Answer, Incoming
from trunkline.wire.llamacpp.completion import (
    COMPLETION,
    CompletionAsk,
    decode_completion,
)

TIMING = Timing(0.1, 0.002, 0.004)


def ask(**fields: Any) -> CompletionAsk:
    return decode_completion(json.dumps({"prompt": "Hello", **fields}).encode())


def request(**fields: Any) -> Request:
    (one,) = ask(**fields).requests("id", "m", "team")
    return one


def inputs(prompt: Any) -> list[Any]:
    return [one.input for one in ask(prompt=prompt).requests("id", "m", "")]


def rendered(asked: CompletionAsk, *calls: Sequence[Event]) -> bytes:
    """The response, given the events of each prompt; they come one by one, in turn."""
    renderer = asked.renderer(Answer("cmpl-1", "m", 1, "fp"))
    out = b""
    for index in range(max(map(len, calls))):
        for prompt, own in enumerate(calls):
            if index < len(own):
                out += renderer.take(prompt, (own[index],))
    return out + renderer.finish(Usage(0, 0), TIMING)


def text(content: str, *ids: int, row: int = 0) -> Delta:
    return Delta("id", row, content, ids or (1,))


def end(
    made: int = 4, reason: Any = "length", stop: str | int | None = None, rows: int = 1
) -> tuple[Event, ...]:
    usage = Usage(1, made, 0)
    finished = tuple(RowFinished("id", row, reason, stop) for row in range(rows))
    return (*finished, Completed("id", usage, TIMING))


def likely(token: str, number: int, *top: tuple[str, int]) -> TokenLogprob:
    best = tuple((one, one.encode(), i, -0.5) for one, i in top)
    return TokenLogprob(token, token.encode(), number, -0.5, best)


# decoding


def test_defaults_are_those_of_the_server() -> None:
    one = request()
    assert one.sampling == SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)
    assert one.input == TextInput("Hello")
    assert (one.id, one.model, one.tenant, one.overflow) == ("id", "m", "team", "cap")
    assert (one.tool_choice, one.cache_salt) == ("none", "")
    assert not ask().stream


def test_every_sampling_field_arrives() -> None:
    one = request(
        temperature=0.5,
        top_k=7,
        top_p=0.9,
        min_p=0.1,
        typical_p=0.8,
        repeat_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        seed=42,
        n_predict=9,
        n_probs=3,
        ignore_eos=True,
        logit_bias=[[5, 1.5], [6, False], [7, True], [8, None], ["9"], [-1, 2]],
        stop=["a", "", "b"],
        n_cmpl=2,
        cache_prompt=False,
        id_slot=3,
    )
    assert one.sampling == SamplingParams(
        temperature=0.5,
        top_k=7,
        top_p=0.9,
        min_p=0.1,
        typical_p=0.8,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        logit_bias=((5, 1.5), (6, -1e9)),
        seed=42,
        max_tokens=9,
        ignore_eos=True,
        logprobs=3,
    )
    assert (one.stop, one.n, one.cache_salt) == (("a", "b"), 2, "id")


def test_ends_of_text_are_impossible_where_they_are_ignored() -> None:
    assert request(ignore_eos=True).sampling.min_tokens == 2**31 - 1
    assert request(ignore_eos=True, stop=["x"]).sampling.min_tokens == 0


def test_null_is_absent() -> None:
    names = ["temperature", "n_predict", "stop", "seed", "grammar", "json_schema", "samplers"]
    names += ["logit_bias", "n", "stream", "response_fields", "lora", "cache_prompt"]
    assert request(**dict.fromkeys(names)) == request()


@pytest.mark.parametrize("name", ["n_predict", "max_tokens", "max_completion_tokens"])
def test_names_of_the_limit(name: str) -> None:
    assert request(**{name: 5}).sampling.max_tokens == 5
    assert request(**{name: -1}).sampling.max_tokens is None
    # As its server does.
    assert request(**{name: 0}).sampling.max_tokens == 1


def test_other_forms() -> None:
    assert request(stop="x").stop == ("x",)
    assert request(logit_bias={"5": -2, "6": False}).sampling.logit_bias == ((5, -2), (6, -1e9))
    assert request(logprobs=2).sampling.logprobs == 2
    assert request(seed=2**32 - 1).sampling.seed is None
    assert request(n=3).n == 3


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Hello", [TextInput("Hello")]),
        ([1, 2], [TokensInput((1, 2))]),
        ([1, 2, "ab", 3], [MixedInput(((1, 2), "ab", (3,)))]),
        (["a", "b"], [TextInput("a"), TextInput("b")]),
        (["a", [1], ["x", 2]], [TextInput("a"), TokensInput((1,)), MixedInput(("x", (2,)))]),
        ({"prompt_string": "a"}, [TextInput("a")]),
        ([{"prompt_string": "a", "multimodal_data": []}, "b"], [TextInput("a"), TextInput("b")]),
    ],
)
def test_prompts(prompt: Any, expected: list[Any]) -> None:
    assert inputs(prompt) == expected


@pytest.mark.parametrize("prompt", [5, True, None, [], [[1.5]], [1, None], {}, [True], ["a", {}]])
def test_prompts_that_are_none(prompt: Any) -> None:
    with pytest.raises(InvalidRequest, match='"prompt"'):
        ask(prompt=prompt)


def test_no_prompt() -> None:
    with pytest.raises(InvalidRequest, match="'prompt' not found"):
        decode_completion(b"{}")


def test_images() -> None:
    with pytest.raises(Unsupported, match="Multimodal data"):
        ask(prompt={"prompt_string": "a", "multimodal_data": ["aGk="]})


def test_grammars() -> None:
    gbnf = 'root ::= "a"'
    assert request(grammar=gbnf).grammar == Grammar("gbnf", gbnf)
    assert request(json_schema={}).grammar == Grammar("json_object")
    # As its server has it: the grammar wins.
    both = request(grammar=gbnf, json_schema={"type": "object"})
    assert both.grammar == Grammar("gbnf", gbnf)
    by_schema = request(json_schema={"type": "integer"}).grammar
    assert by_schema is not None
    assert by_schema.kind == "json_schema"
    assert json.loads(by_schema.value)["type"] == "integer"


@pytest.mark.parametrize(
    ("name", "neutral", "value"),
    [
        ("dynatemp_range", 0, 0.5),
        ("top_n_sigma", -1, 1.0),
        ("xtc_probability", 0, 0.5),
        ("dry_multiplier", 0, 0.8),
        ("mirostat", 0, 2),
        ("adaptive_target", -1, 0.5),
        ("min_keep", 0, 5),
        ("post_sampling_probs", False, True),
        ("reasoning_budget_tokens", -1, 100),
        ("lora", [], [{"id": 0, "scale": 1.0}]),
        ("grammar_lazy", False, True),
        ("grammar_triggers", [], [{"type": 0, "value": "x"}]),
    ],
)
def test_what_would_change_the_output_is_refused_by_name(
    name: str, neutral: Any, value: Any
) -> None:
    assert request(**{name: neutral}) == request()
    is_refused_here(ask(**{name: value}), name)


def test_limits_of_lines() -> None:
    assert request(n_indent=4, t_max_predict_ms=1500).lines == LineLimits(4, 1.5)
    assert request(n_indent=4, t_max_predict_ms=-1).lines == LineLimits(4)
    assert request(n_indent=0, t_max_predict_ms=-1, t_max_prompt_ms=500).lines is None


def test_xtc_above_one_half_is_off() -> None:
    assert request(xtc_probability=0.5, xtc_threshold=0.6) == request()


def test_samplers() -> None:
    every = ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc"]
    assert request(samplers=[*every, "temperature"]) == request()
    assert request(samplers="edskypmxt") == request()
    one = request(samplers=["top_k"], temperature=0.1, repeat_penalty=2).sampling
    assert one == SamplingParams(top_k=40)
    assert request(samplers="mt").sampling == SamplingParams(min_p=0.05, temperature=0.8)
    # llama.vim's.
    one = request(samplers=["top_k", "top_p", "infill"]).sampling
    assert one == SamplingParams(top_k=40, top_p=0.95, infill=True)
    for wrong in (["temperature", "top_k"], ["top_k", "top_k"], ["nobody"], "tk", "z"):
        with pytest.raises(Unsupported, match="samplers"):
            ask(samplers=wrong)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_predict": -2}, "Field 'n_predict': Value must be between -1 <= value"),
        ({"temperature": "x"}, "Field 'temperature': Expected `float | null`, got `str`"),
        ({"repeat_penalty": 0}, "Field 'repeat_penalty'"),
        ({"repeat_last_n": -1}, "Field 'repeat_last_n'"),
        ({"n": 0}, "Field 'n'"),
    ],
)
def test_wrong_values(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert caught.value.message.startswith(message)


def test_bias_by_text_is_refused() -> None:
    with pytest.raises(Unsupported, match="only token ids"):
        ask(logit_bias={"Hello": 1})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"prompt":' + b"[" * 5000])
def test_malformed_bodies(body: bytes) -> None:
    with pytest.raises(TrunklineError) as caught:
        COMPLETION.decode(Incoming(body))
    assert COMPLETION.status(caught.value) == 400


# rendering


def test_whole_answer() -> None:
    theirs = golden("completion.json")
    asked = ask(n_predict=4, temperature=0, n_probs=2, return_tokens=True)
    pairs = (("!", 0), ("Hello", 634))
    deltas = [
        Delta("id", 0, one, (number,), (likely(one, number, *pairs),))
        for one, number in (*pairs, *pairs)
    ]
    ours = json.loads(rendered(asked, (*deltas, *end())))
    same_shape(ours, theirs)
    same = set(ours) - {"id_slot", "generation_settings", "timings", "completion_probabilities"}
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert ours["generation_settings"]["n_predict"] == 4
    assert ours["completion_probabilities"][0]["top_logprobs"][1]["bytes"] == [
        72,
        101,
        108,
        108,
        111,
    ]
    timings = ours["timings"]
    assert (timings["prompt_ms"], timings["predicted_ms"]) == (2.0, 4.0)
    assert (timings["prompt_per_second"], timings["predicted_per_second"]) == (500.0, 1000.0)


def test_tokens_are_told_where_asked_for() -> None:
    assert json.loads(rendered(ask(), (text("a", 5), *end())))["tokens"] == []


def test_stream() -> None:
    theirs = golden("stream.txt")
    asked = ask(n_predict=3, temperature=0, stream=True, n_probs=1)
    deltas = [
        Delta("id", 0, one, (number,), (likely(one, number, (one, number)),))
        for one, number in (("!", 0), ("Hello", 634), ("!", 0))
    ]
    ours = events(rendered(asked, (*deltas, *end(3))))
    assert len(ours) == len(theirs)
    # How long a prompt is, is known when it is over.
    for one, other in zip(ours[:-1], theirs[:-1], strict=True):
        same_shape(one, other, frozenset(("tokens_evaluated",)))
        for key in ("index", "content", "tokens", "stop", "id_slot", "tokens_predicted"):
            assert one[key] == other[key]
    same_shape(ours[-1], theirs[-1])
    for key in ("content", "tokens", "stop", "tokens_predicted", "tokens_evaluated", "stop_type"):
        assert ours[-1][key] == theirs[-1][key]


def test_stop_word() -> None:
    theirs = golden("stop_word.json")
    ours = json.loads(
        rendered(ask(stop=["lo!"]), (text("!Hel", 0, 634, 0), *end(3, "stop", "lo!")))
    )
    for key in ("content", "stop_type", "stopping_word", "tokens_predicted", "tokens_cached"):
        assert ours[key] == theirs[key]
    assert ours["generation_settings"]["stop"] == theirs["generation_settings"]["stop"]


def test_end_of_text() -> None:
    ours = json.loads(rendered(ask(), (text("a\nb"), *end(2, "stop"))))
    assert (ours["stop_type"], ours["stopping_word"]) == ("eos", "")
    assert ours["has_new_line"]


def test_several_prompts_and_rows() -> None:
    theirs = golden("prompts.json")
    asked = ask(prompt=["Hello", [634, 0], [1, "a"]])
    ids = [one.id for one in asked.requests("cmpl-1", "m", "")]
    assert ids == ["cmpl-1-0", "cmpl-1-1", "cmpl-1-2"]
    # The second is ready first.
    calls = [(text("a"), text("b"), *end()), end(0), (text("c"), *end())]
    ours = json.loads(rendered(asked, *calls))
    assert [one["index"] for one in ours] == [one["index"] for one in theirs] == [0, 1, 2]
    assert [one["content"] for one in ours] == ["ab", "", "c"]
    for one, other in zip(ours, theirs, strict=True):
        same_shape(one, other)
    rows = (text("x"), text("y", 1, 2, row=1), *end(3, rows=2))
    both = json.loads(rendered(ask(n=2), rows))
    assert [(one["index"], one["content"], one["tokens_predicted"]) for one in both] == [
        (0, "x", 1),
        (1, "y", 2),
    ]


def test_response_fields() -> None:
    asked = ask(n_predict=2, response_fields=["content", "generation_settings/n_predict", "nope"])
    ours = json.loads(rendered(asked, (text("!Hello"), *end(2))))
    assert ours == golden("response_fields.json")


def test_thinking_is_text() -> None:
    thought = Delta("id", 0, "so", (1,), None, "hm ")
    assert json.loads(rendered(ask(), (thought, *end())))["content"] == "hm so"


def test_unicode_at_the_borders_of_chunks() -> None:
    pieces = (text("na"), text("ï"), text("ve 東"), text(""), text("🚂"))
    ours = events(rendered(ask(stream=True), (*pieces, *end())))
    assert "".join(one["content"] for one in ours) == "naïve 東🚂"


def test_an_impossible_token() -> None:
    one = TokenLogprob("a", b"\xe2", 5, float("-inf"))
    ours = json.loads(rendered(ask(n_probs=1), (Delta("id", 0, "a", (5,), (one,)), *end())))
    assert ours["completion_probabilities"][0]["bytes"] == [0xE2]
    assert ours["completion_probabilities"][0]["logprob"] < -1e38
