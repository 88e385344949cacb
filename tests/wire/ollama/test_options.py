from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import SamplingParams
from trunkline.wire.ollama.options import read_options


def sampling(**options: Any) -> SamplingParams:
    return read_options(options, None).sampling


def test_defaults() -> None:
    expected = SamplingParams(temperature=0.8, top_k=40, top_p=0.9)
    assert read_options(None, None).sampling == expected
    assert sampling(temperature=None, stop=None, seed=None) == expected


@pytest.mark.parametrize(
    ("given_", "expected"), [(-1, None), (-2, None), (0, None), (7, 7), (7.9, 7)]
)
def test_num_predict(given_: float, expected: int | None) -> None:
    assert sampling(num_predict=given_).max_tokens == expected


@pytest.mark.parametrize(("given_", "expected"), [(-1, None), (0, 0), (42, 42), (-2, 2**64 - 2)])
def test_seed(given_: int, expected: int | None) -> None:
    assert sampling(seed=given_).seed == expected


def test_what_llama_cpp_clamps() -> None:
    one = sampling(temperature=-1, top_k=-1, top_p=0, min_p=2, typical_p=5)
    assert (one.temperature, one.top_k, one.min_p, one.typical_p) == (0.0, 0, 1.0, 1.0)
    assert 0 < one.top_p < 1e-5


def test_no_window_means_no_penalties() -> None:
    penalties = {"repeat_penalty": 1.3, "presence_penalty": 1.0, "frequency_penalty": 1.0}
    assert sampling(repeat_last_n=0, **penalties) == sampling()
    assert sampling(**penalties).repetition_penalty == 1.3


def test_stop_and_context() -> None:
    options = read_options({"stop": ["a", "", "b"], "num_ctx": 2048}, 5)
    assert (options.stop, options.num_ctx) == (("a", "b"), 2048)
    assert options.sampling.logprobs == 5


def test_what_is_given_is_known_though_neutral() -> None:
    neutral = {"temperature": 1, "top_k": -1, "top_p": 1.0, "repeat_penalty": 1, "min_p": 0}
    options = read_options(neutral, None)
    expected = {"temperature", "top_k", "top_p", "repetition_penalty", "min_p"}
    assert (set(options.explicit), options.implied) == (expected, ())
    options = read_options({"temperature": 0.5, "top_p": None, "seed": -1}, None)
    assert (options.explicit, options.implied) == ((), ("top_k", "top_p"))


def test_options_of_loading_are_kept_for_who_loads() -> None:
    options = read_options({"num_ctx": 4096, "use_mmap": False, "num_gpu": None, "seed": 1}, None)
    assert options.notes == {"options.num_ctx": 4096, "options.use_mmap": False}


def test_unknown_and_load_time_options_say_nothing() -> None:
    assert sampling(mirostat=2, num_gpu=99, use_mmap=False, nobody="x") == sampling()


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("num_predict", "10", "integer"),
        ("seed", True, "integer"),
        ("num_ctx", [], "integer"),
        ("temperature", "hot", "float32"),
        ("top_p", {}, "float32"),
        ("use_mmap", 1, "boolean"),
        ("stop", "x", "array"),
    ],
)
def test_wrong_types(option: str, value: Any, kind: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sampling(**{option: value})
    assert caught.value.message == f'option "{option}" must be of type {kind}'


def test_wrong_stops() -> None:
    with pytest.raises(InvalidRequest, match="must be of an array of strings"):
        sampling(stop=["a", 1])
    with pytest.raises(InvalidRequest, match="more than 64"):
        sampling(stop=["a"] * 65)


NAMES: tuple[str, ...] = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "seed",
)
NAMES += ("num_predict", "repeat_last_n", "num_ctx", "stop", "presence_penalty")
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_whatever_comes_is_refused_or_within_bounds(options: dict[str, Any]) -> None:
    try:
        one = read_options(options, None).sampling
    except InvalidRequest:
        return
    assert one.temperature >= 0
    assert one.top_k >= 0
    assert 0 < one.top_p <= 1
    assert 0 <= one.min_p <= 1
    assert 0 < one.typical_p <= 1
    assert one.repetition_penalty > 0
    assert one.max_tokens is None or one.max_tokens > 0
    assert one.seed is None or 0 <= one.seed < 2**64
