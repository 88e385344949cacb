from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.llamacpp.support import golden
from tests.wire.support import ANSWER, TIMING, USAGE, delta, end
from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import Completed, InfillInput, PromptToken, PromptTokens, SourceFile
from trunkline.wire.codec import Incoming
from trunkline.wire.llamacpp.completion import INFILL, CompletionAsk, decode_infill


def ask(**fields: Any) -> CompletionAsk:
    body = {"input_prefix": "def ", "input_suffix": ":", **fields}
    return decode_infill(json.dumps(body).encode())


def test_what_is_filled_in() -> None:
    extra = [{"text": "a"}, {"text": "b", "filename": "b.py"}]
    (request,) = ask(
        prompt="f", input_suffix=["x", 5, 6, "y"], input_extra=extra, n_predict=9, top_k=3
    ).requests("r", "m", "")
    assert request.input == InfillInput(
        ("def ",),
        ("x", (5, 6), "y"),
        "f",
        (SourceFile("a", "tmp"), SourceFile("b", "b.py")),
        fit=True,
        repository=True,
    )
    assert (request.sampling.max_tokens, request.sampling.top_k) == (9, 3)
    assert (request.overflow, request.show_prompt) == ("cap", True)
    (of_tokens,) = ask(input_prefix=[1, 2]).requests("r", "m", "")
    assert isinstance(of_tokens.input, InfillInput)
    assert of_tokens.input.prefix == ((1, 2),)


@pytest.mark.parametrize("stream", [False, True])
def test_the_prompt_is_told_as_text(stream: bool) -> None:
    renderer = ask(stream=stream).renderer(ANSWER)
    known = [PromptToken("x", data, 1) for data in (b"<|fim_prefix|>", b"\xc3", b"\xa9")]
    sent = renderer.take(0, [PromptTokens("r", (known[0],)), PromptTokens("r", tuple(known[1:]))])
    sent += renderer.take(0, [delta("f"), end(), Completed("r", USAGE, TIMING)])
    sent += renderer.finish(USAGE, TIMING)
    assert json.loads(sent.split(b"data: ")[-1])["prompt"] == "<|fim_prefix|>é"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a"]}, "prompt"),
        ({"input_extra": {}}, "input_extra"),
        ({"input_extra": ["a"]}, "input_extra"),
        ({"input_extra": [{"filename": "a"}]}, "input_extra"),
        ({"input_extra": [{"text": "a", "filename": 1}]}, "input_extra"),
        ({"input_prefix": 5}, "prompt"),
    ],
)
def test_wrong_values(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize("name", ["input_prefix", "input_suffix"])
def test_both_sides_are_needed(name: str) -> None:
    other = {"input_prefix": "input_suffix", "input_suffix": "input_prefix"}[name]
    with pytest.raises(InvalidRequest, match=f'"{name}" is required'):
        INFILL.decode(Incoming(json.dumps({other: "a"}).encode()))


def test_a_model_that_cannot() -> None:
    # The front's words; see tests/engine/front/test_infill.py.
    missing = "".join(f"{name} token is missing. " for name in ("prefix", "suffix", "middle"))
    error = Unsupported(f"Infill is not supported by this model: {missing}")
    assert json.loads(INFILL.error(error)) == golden("infill_error.json")
    assert INFILL.status(error) == 501
