from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.support import ANSWER, GOLDEN, TIMING, USAGE, delta, end, is_refused_here, token
from trunkline.core.errors import InvalidRequest, QueueFull, TrunklineError, Unsupported
from trunkline.core.types import (
    Completed,
    Delta,
    Event,
    FinishReason,
    Grammar,
    PromptToken,
    PromptTokens,
    Request,
    RowFinished,
    SamplingParams,
    TextInput,
    Timing,
    TokensInput,
    Usage,
)
from trunkline.wire.codec import Incoming
from trunkline.wire.sglang.generate import GENERATE, GenerateAsk


def ask(**body: Any) -> GenerateAsk:
    if "input_ids" not in body:
        body.setdefault("text", "The capital of France is")
    decoded = GENERATE.decode(Incoming(json.dumps(body).encode()))
    assert isinstance(decoded, GenerateAsk)
    return decoded


def requests(**body: Any) -> tuple[Request, ...]:
    return ask(**body).requests("r", "m", "t")


def sampled(**params: Any) -> Request:
    return requests(sampling_params=params)[0]


def test_defaults() -> None:
    (request,) = requests()
    assert request.input == TextInput("The capital of France is")
    assert request.sampling == SamplingParams(max_tokens=128)
    assert (request.id, request.tenant, request.n, request.overflow) == ("r", "t", 1, "error")


def test_all_parameters() -> None:
    request = sampled(
        max_new_tokens=9,
        min_new_tokens=2,
        stop="END",
        stop_token_ids=[5, 6],
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        min_p=0.1,
        frequency_penalty=0.2,
        presence_penalty=0.3,
        repetition_penalty=1.1,
        n=2,
        ignore_eos=True,
        skip_special_tokens=False,
        spaces_between_special_tokens=True,
        no_stop_trim=True,
        logit_bias={"7": -100},
        sampling_seed=11,
    )
    assert request.sampling == SamplingParams(
        temperature=0.5,
        top_k=3,
        top_p=0.9,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.3,
        frequency_penalty=0.2,
        logit_bias=((7, -100.0),),
        seed=11,
        max_tokens=9,
        min_tokens=2,
        stop_token_ids=(5, 6),
        ignore_eos=True,
    )
    assert (request.n, request.stop, request.include_stop) == (2, ("END",), True)
    assert not request.skip_special_tokens


def test_nothing_given_in_so_many_words() -> None:
    # SGLang takes null for "use the default", and for max_new_tokens as no limit.
    request = sampled(max_new_tokens=None, temperature=None, stop=None, top_k=None, n=None)
    assert request.sampling == SamplingParams()


def test_greedy_below_a_millionth() -> None:
    assert sampled(temperature=1e-7).sampling.temperature == 0.0
    assert sampled(temperature=0.01).sampling.temperature == 0.01


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"regex": "a+"}, Grammar("regex", "a+")),
        ({"ebnf": 'root ::= "a"'}, Grammar("gbnf", 'root ::= "a"')),
        ({"json_schema": "$$ANY$$"}, Grammar("json_object")),
    ],
)
def test_constraints(params: Any, expected: Grammar) -> None:
    assert sampled(**params).grammar == expected


@pytest.mark.parametrize("schema", ['{"type": "null"}', {"type": "null"}])
def test_schemas_come_as_text_or_as_they_are(schema: Any) -> None:
    made = sampled(json_schema=schema).grammar
    assert made is not None
    assert (made.kind, json.loads(made.value)["type"]) == ("json_schema", "null")


def test_batches() -> None:
    one, two = requests(
        text=["a", "b"],
        sampling_params=[{"max_new_tokens": 1}, {"max_new_tokens": 2}],
        return_logprob=[False, True],
        top_logprobs_num=3,
        priority=4,
        cache_salt="s",
    )
    assert (one.id, one.input, one.sampling.max_tokens) == ("r-0", TextInput("a"), 1)
    assert (two.id, two.input, two.sampling.max_tokens) == ("r-1", TextInput("b"), 2)
    assert (one.sampling.logprobs, two.sampling.logprobs) == (None, 3)
    # The higher runs earlier there, the lower here.
    assert (two.priority, two.cache_salt) == (-4, "s")
    assert requests(input_ids=[1, 2])[0].input == TokensInput((1, 2))
    lists = requests(input_ids=[[1], [2, 3]])
    assert [one.input for one in lists] == [TokensInput((1,)), TokensInput((2, 3))]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"text": None}, "Either text, input_ids or input_embeds"),
        ({"text": "x", "input_ids": [1]}, "Either text"),
        ({"text": []}, "text"),
        ({"text": [1]}, "text"),
        ({"input_ids": [[]]}, "input_ids"),
        ({"text": ["a"], "sampling_params": [{}, {}]}, "2 entries for 1 prompts"),
        ({"text": ["a", "b"], "sampling_params": [{"n": 1}, {"n": 2}]}, "parallel_sample_num"),
        ({"text": ["a", "b"], "rid": ["x"]}, "'rid' has 1 entries"),
        ({"text": ["a"] * 64, "sampling_params": {"n": 128}}, "over 1024"),
        ({"sampling_params": {"top_k": 0}}, "top_k must be -1"),
        ({"sampling_params": {"temperature": -1}}, "sampling_params.temperature"),
        ({"sampling_params": {"max_new_tokens": 1, "min_new_tokens": 2}}, "min_new_tokens"),
        ({"sampling_params": {"stop": [""]}}, "stop string is empty"),
        ({"sampling_params": {"regex": "a", "ebnf": "b"}}, "Only one of regex"),
        ({"sampling_params": 3}, "sampling_params"),
        ({"return_logprob": True, "logprob_start_len": -2}, "logprob_start_len"),
        (
            {
                "text": "x" * 20_000,
                "return_logprob": True,
                "logprob_start_len": 0,
                "top_logprobs_num": 1000,
            },
            "too long for 1000 alternatives",
        ),
    ],
)
def test_what_is_wrong_is_told(body: Any, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**body)
    assert words in caught.value.message
    assert json.loads(GENERATE.error(caught.value)) == {"error": {"message": caught.value.message}}


@pytest.mark.parametrize("name", ["image_data", "session_params", "input_embeds"])
def test_what_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(Unsupported, match=name):
        ask(**{name: "x"})
    ask(**{name: None})


def test_what_another_server_may_go_without() -> None:
    is_refused_here(ask(lora_path="x"), "lora_path")
    is_refused_here(ask(sampling_params={"stop_regex": "a"}), "stop_regex")
    each = [{"stop_regex": "a"}, {}]
    first, second = ask(text=["a", "b"], sampling_params=each).requests("r", "m", "")
    # Neither is answered alone.
    assert list(first.beyond) == list(second.beyond) == ["stop_regex"]


def completed(usage: Usage = USAGE, timing: Timing = TIMING) -> Event:
    return Completed("r", usage, timing)


def whole(asked: GenerateAsk, *batches: list[Event]) -> Any:
    renderer = asked.renderer(ANSWER)
    for prompt, events in enumerate(batches):
        assert renderer.take(prompt, events) == b""
    return json.loads(renderer.finish(USAGE, TIMING))


# Fields that tell of SGLang's own workings.
NOT_OURS = {
    "weight_version",
    "num_retractions",
    "reasoning_tokens",
    "cached_tokens_details",
    "dp_rank",
    "response_sent_to_client_ts",
}


@pytest.mark.parametrize("name", ["generate.json", "generate_json.json"])
def test_published_answers(name: str) -> None:
    expected = json.loads((GOLDEN / "sglang" / name).read_text())
    meta = expected["meta_info"]
    expected["meta_info"] = {key: meta[key] for key in meta if key not in NOT_OURS}
    ids = expected["output_ids"]
    matched = meta["finish_reason"].get("matched")
    shown = ids if matched is None else ids[:-1]
    reason: FinishReason = "stop" if matched else "length"
    answer = whole(
        ask(rid=meta["id"]),
        [
            Delta("r", 0, expected["text"], tuple(shown)),
            RowFinished("r", 0, reason, None, matched),
            completed(
                Usage(meta["prompt_tokens"], meta["completion_tokens"], meta["cached_tokens"]),
                Timing(0.0, meta["e2e_latency"], 0.0),
            ),
        ],
    )
    assert answer == expected


def test_log_probabilities() -> None:
    asked = ask(return_logprob=True, top_logprobs_num=2, return_text_in_logprobs=True)
    events = [
        delta("Hi", token("Hi", 1, -0.25, top=2)),
        end(token("</s>", 2, float("-inf"), top=2)),
    ]
    meta = whole(asked, [*events, completed()])["meta_info"]
    assert meta["input_token_logprobs"] == []
    assert meta["output_token_logprobs"] == [[-0.25, 1, "Hi"], [-9999.0, 2, "</s>"]]
    assert meta["output_token_logprobs_length"] == 2
    assert meta["output_top_logprobs"][0] == [[-0.25, 1, "Hi"], [-1.25, 901, "alt1"]]
    bare = whole(ask(return_logprob=True), [*events, completed()])["meta_info"]
    assert bare["output_token_logprobs"][0] == [-0.25, 1, None]
    assert "output_top_logprobs" not in bare


def test_log_probabilities_of_the_prompt() -> None:
    asked = ask(
        text=["a", "b"],
        return_logprob=True,
        top_logprobs_num=1,
        logprob_start_len=[1, -1],
        sampling_params={"max_new_tokens": 0},
    )
    first, second = asked.requests("r", "m", "")
    assert (first.prompt_logprobs, first.prompt_logprobs_start) == (1, 1)
    assert (second.prompt_logprobs, second.prompt_logprobs_start) == (None, 0)
    assert first.sampling.max_tokens == 0
    best = (("y", b"y", 9, -0.25),)
    told = [
        PromptTokens("r", (PromptToken("a", b"a", 1), PromptToken("b", b"b", 2))),
        PromptTokens("r", (PromptToken("c", b"c", 3, -1.5, 2, best),)),
    ]
    over: list[Event] = [RowFinished("r", 0, "length"), completed(Usage(3, 0))]
    one, other = whole(asked, [*told, *over], over)
    assert one["meta_info"]["input_token_logprobs"] == [[None, 2, None], [-1.5, 3, None]]
    assert one["meta_info"]["input_top_logprobs"] == [None, [[-0.25, 9, None]]]
    assert one["meta_info"]["output_token_logprobs"] == []
    assert one["meta_info"]["finish_reason"] == {"type": "length", "length": 0}
    assert other["meta_info"]["input_token_logprobs"] == []


def test_lists_of_answers() -> None:
    rows = [delta(text, row=i) for i, text in enumerate("ab")]
    over = [end(row=i) for i in range(2)]
    several = whole(ask(sampling_params={"n": 2}), [*rows, *over, completed()])
    assert [one["text"] for one in several] == ["a", "b"]
    batch = whole(
        ask(text=["x", "y"], sampling_params={"n": 2}, rid="mine"),
        [*rows, *over, completed(Usage(1, 2))],
        [*reversed(rows), *over, completed(Usage(9, 2))],
    )
    assert [one["text"] for one in batch] == ["a", "b", "a", "b"]
    assert [one["meta_info"]["prompt_tokens"] for one in batch] == [1, 1, 9, 9]
    assert [one["meta_info"]["id"] for one in batch] == ["mine_0", "mine_0", "mine_1", "mine_1"]
    assert len(whole(ask(text=["x"]), [delta("a"), end(), completed()])) == 1


def parsed(sse: bytes) -> list[Any]:
    parts = sse.decode().split("\n\n")[:-1]
    assert all(part.startswith("data: ") for part in parts)
    return [
        data if data == "[DONE]" else json.loads(data)
        for data in (part.removeprefix("data: ") for part in parts)
    ]


def test_streams_tell_all_text_so_far() -> None:
    renderer = ask(stream=True).renderer(ANSWER)
    sent = renderer.take(0, [delta("naï", token("na", 1), token("ï", 2))])
    sent += renderer.take(0, [delta("ve", token("ve", 3))])
    sent += renderer.take(0, [RowFinished("r", 0, "stop", "END"), completed()])
    sent += renderer.finish(USAGE, TIMING)
    first, second, last, done = parsed(sent)
    assert [one["text"] for one in (first, second, last)] == ["naï", "naïve", "naïve"]
    assert [one["output_ids"] for one in (first, second)] == [[1, 2], [1, 2, 3]]
    assert first["meta_info"] == {"id": "req-1", "finish_reason": None, "completion_tokens": 2}
    assert last["meta_info"] == {
        "id": "req-1",
        "finish_reason": {"type": "stop", "matched": "END"},
        "completion_tokens": 3,
        "prompt_tokens": 7,
        "cached_tokens": 2,
        "e2e_latency": 1.75,
    }
    assert "index" not in first
    assert done == "[DONE]"


def test_the_last_event_of_a_stream_tells_what_it_took_also_where_no_ids_are_known() -> None:
    renderer = ask(stream=True).renderer(ANSWER)
    sent = renderer.take(0, [Delta("r", 0, "naï")])
    # Other servers tell that later.
    sent += renderer.take(0, [Delta("r", 0, "ve"), RowFinished("r", 0, "length")])
    sent += renderer.take(0, [completed(Usage(7, 2))])
    sent += renderer.finish(USAGE, TIMING)
    _, second, last, done = parsed(sent)
    assert (second["text"], second["meta_info"]["finish_reason"]) == ("naïve", None)
    assert (last["text"], done) == ("naïve", "[DONE]")
    meta = last["meta_info"]
    assert meta["finish_reason"] == {"type": "length", "length": 2}
    assert (meta["prompt_tokens"], meta["completion_tokens"]) == (7, 2)


def test_each_of_several_ends_once() -> None:
    asked = ask(sampling_params={"n": 2}, stream=True)
    renderer = asked.renderer(ANSWER)
    sent = renderer.take(0, [Delta("r", 1, "b"), RowFinished("r", 1, "stop")])
    sent += renderer.take(0, [Delta("r", 0, "a"), RowFinished("r", 0, "stop"), completed()])
    ends = [one for one in parsed(sent) if one["meta_info"]["finish_reason"]]
    assert [(one["index"], one["text"]) for one in ends] == [(0, "a"), (1, "b")]


def test_streams_of_several_say_whose_text_it_is() -> None:
    renderer = ask(text=["x", "y"], stream=True).renderer(ANSWER)
    assert parsed(renderer.take(1, [delta("b")]))[0]["index"] == 1
    assert parsed(renderer.take(0, [delta("a")]))[0]["index"] == 0


def test_errors_within_a_stream() -> None:
    error: TrunklineError = QueueFull("full")
    assert parsed(GENERATE.stream_error(error)) == [{"error": {"message": "full"}}, "[DONE]"]
    assert GENERATE.status(error) == 429
