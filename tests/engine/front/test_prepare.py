from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from trunkline.core.errors import ContextOverflow, InvalidRequest, TrunklineError, Unsupported
from trunkline.core.types import (
    ChatInput,
    InfillInput,
    Input,
    Message,
    MixedInput,
    Request,
    SamplingParams,
    TextInput,
    TokensInput,
)
from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import AddGroup, CoreReady
from trunkline.engine.front.model_file import Head
from trunkline.engine.front.model_text import ModelText
from trunkline.engine.front.prepare import Preparer, prefix_root
from trunkline.text.byte_tokenizer import ByteTokenizer

CORE = CoreReady(100, 1000, 6, 1, "fake", 0.0)
CONFIG = EngineConfig(name="m", model="m", max_num_seqs=8)


@pytest.fixture
def preparer() -> Preparer:
    text = ModelText(CONFIG, Head(None, "", "", 0), ByteTokenizer())
    return Preparer(CONFIG, text, ThreadPoolExecutor(1))


def request(source: Input | None = None, **options: Any) -> Request:
    sampling = SamplingParams(
        **{k: options.pop(k) for k in tuple(options) if k in SamplingParams.__struct_fields__}
    )
    prompt = source or TextInput("x" * 90)
    return Request(id="r", model="m", input=prompt, sampling=sampling, **options)


def group(preparer: Preparer, wanted: Request, size: int = 90) -> AddGroup:
    return preparer.group(7, wanted, [65] * size, CORE, 1.5)


def test_group_carries_everything(preparer: Preparer) -> None:
    wanted = request(max_tokens=10, seed=-1, n=6, priority=3, tenant="t", cache_salt="s")
    made = group(preparer, wanted)
    assert np.frombuffer(made.prompt, "<i4").tolist() == [65] * 90
    assert (made.group, made.n, made.priority, made.tenant, made.arrived) == (7, 6, 3, "t", 1.5)
    assert made.params.max_tokens == 10
    assert made.params.seed == 2**64 - 1
    assert made.root == prefix_root("s", "m")


def test_max_tokens(preparer: Preparer) -> None:
    assert group(preparer, request()).params.max_tokens == 10
    assert group(preparer, request(max_tokens=11, overflow="cap")).params.max_tokens == 10
    with pytest.raises(ContextOverflow) as caught:
        group(preparer, request(max_tokens=11))
    assert caught.value.message == (
        "This model's maximum context length is 100 tokens. However, you requested 101 tokens "
        "(90 in the prompt, 11 in the completion). Please reduce the length of the prompt or "
        "completion."
    )
    assert caught.value.param == "max_tokens"


@pytest.mark.parametrize("overflow", ["cap", "error"])
@pytest.mark.parametrize("size", [100, 101, 5000])
@pytest.mark.parametrize("max_tokens", [None, 1])
def test_prompt_over_the_context_is_an_error(
    preparer: Preparer, overflow: str, size: int, max_tokens: int | None
) -> None:
    chat = ChatInput((Message("user", "x"),))
    wanted = request(chat, overflow=overflow, max_tokens=max_tokens)
    with pytest.raises(
        ContextOverflow, match=rf"is 100 tokens.*{size}.* in the messages"
    ) as caught:
        group(preparer, wanted, size)
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 7}, "n"),
        ({"logit_bias": ((259, 1.0),)}, "logit_bias"),
        ({"logit_bias": ((-1, 1.0),)}, "logit_bias"),
        ({"stop_token_ids": (1, 2**40)}, "stop_token_ids"),
        ({"stop": ("a", "")}, "stop"),
        ({"stop": ("a" * 70_000,)}, "stop"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"logprobs": -1}, "logprobs"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
        ({"prompt_logprobs": 1001}, "prompt_logprobs"),
        ({"prompt_logprobs": 0, "prompt_logprobs_start": 90}, "logprob_start_len"),
        ({"prompt_logprobs": 0, "prompt_logprobs_start": -1}, "logprob_start_len"),
        ({"seed": 1 << 64}, "seed"),
        ({"seed": -(1 << 63) - 1}, "seed"),
    ],
)
def test_refused_by_name(preparer: Preparer, options: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        group(preparer, request(**options))
    assert caught.value.param == param


@pytest.mark.parametrize("seed", [0, 1, (1 << 64) - 1, -(1 << 63)])
def test_any_64_bit_seed(preparer: Preparer, seed: int) -> None:
    assert group(preparer, request(seed=seed)).params.seed == seed % (1 << 64)


def test_no_seed_differs_each_time(preparer: Preparer) -> None:
    assert len({group(preparer, request()).params.seed for _ in range(8)}) == 8


async def test_prompts(preparer: Preparer) -> None:
    assert await preparer.prompt(request(TextInput("é"))) == ("é", [0xC3, 0xA9])
    long = "x" * 100_000
    assert len((await preparer.prompt(request(TextInput(long)))).token_ids) == 100_000
    assert await preparer.prompt(request(TokensInput((1, 258)))) == ("", [1, 258])
    with pytest.raises(InvalidRequest, match="outside the vocabulary"):
        await preparer.prompt(request(TokensInput((259,))))
    with pytest.raises(Unsupported, match="no chat template"):
        await preparer.prompt(request(ChatInput((Message("user", "x"),))))


def test_empty_prompt(preparer: Preparer) -> None:
    with pytest.raises(TrunklineError, match="empty"):
        group(preparer, request(), 0)


def test_roots_differ_by_salt_and_model() -> None:
    roots = {prefix_root(*key) for key in (("", "m"), ("s", "m"), ("m", ""), ("", "sm"))}
    assert len(roots) == 4
    assert prefix_root("s", "m") == prefix_root("s", "m")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("ab", (1, 2), "c"), [97, 98, 1, 2, 99]),
        (((7,), "a"), [7, 97]),
        ((), []),
    ],
)
async def test_texts_and_tokens_in_turn(
    preparer: Preparer, parts: tuple[str | tuple[int, ...], ...], expected: list[int]
) -> None:
    assert (await preparer.prompt(request(MixedInput(parts)))).token_ids == expected


async def test_only_the_text_in_front_gets_special_tokens() -> None:
    class Marked(ByteTokenizer):
        def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
            ids = super().encode(text, add_special=False, parse_special=parse_special)
            return [1, *ids] if add_special else ids

    text = ModelText(CONFIG, Head(None, "", "", 0), Marked())
    preparer = Preparer(CONFIG, text, ThreadPoolExecutor(1))
    for parts, expected in (
        (("a", "b"), [1, 97, 98]),
        (((5,), "b"), [5, 98]),
    ):
        assert (await preparer.prompt(request(MixedInput(parts)))).token_ids == expected
    assert (await preparer.prompt(request(TextInput("a", False)))).token_ids == [97]


async def test_special_tokens_named_in_a_text_may_stay_text(preparer: Preparer) -> None:
    parsed = (await preparer.prompt(request(TextInput("<|im_start|>")))).token_ids
    plain = (await preparer.prompt(request(TextInput("<|im_start|>", True, False)))).token_ids
    assert len(parsed) == 1
    assert plain == list(b"<|im_start|>")


async def test_wrong_ids_between_texts(preparer: Preparer) -> None:
    with pytest.raises(InvalidRequest, match="outside the vocabulary"):
        await preparer.prompt(request(MixedInput(("a", (10**6,)))))


async def test_truncated_prompts_keep_their_end(preparer: Preparer) -> None:
    wanted = request(TextInput("abcdef"), truncate_prompt=3)
    assert (await preparer.prompt(wanted)).token_ids == list(b"def")
    short = request(TextInput("ab"), truncate_prompt=3)
    assert (await preparer.prompt(short)).token_ids == (
        await preparer.prompt(request(TextInput("ab")))
    ).token_ids
    with pytest.raises(InvalidRequest, match="truncate"):
        await preparer.prompt(request(TextInput("ab"), truncate_prompt=0))


def test_log_probabilities_of_a_prompt_are_bounded(preparer: Preparer) -> None:
    made = group(preparer, request(prompt_logprobs=3, prompt_logprobs_start=2))
    assert (made.prompt_logprobs, made.prompt_start) == (3, 2)
    large = CoreReady(100_000, 100_000, 6, 1, "fake", 0.0)
    wanted = request(prompt_logprobs=1000)
    preparer.group(7, wanted, [65] * 900, large, 1.5)
    with pytest.raises(InvalidRequest, match="more than 1000000"):
        preparer.group(7, wanted, [65] * 1100, large, 1.5)


def test_a_prompt_alone_is_computed_all_the_same(preparer: Preparer) -> None:
    assert group(preparer, request(max_tokens=0)).params.max_tokens == 1
    with pytest.raises(ContextOverflow):
        group(preparer, request(max_tokens=0), 100)


async def test_what_nobody_here_can_do_is_refused(preparer: Preparer) -> None:
    asked = request(TextInput("Hi"), beyond={"audio": "'audio' is not supported."})
    with pytest.raises(Unsupported, match="'audio' is not supported") as caught:
        await preparer.prompt(asked, 100)
    assert caught.value.param == "audio"


async def test_prompts_to_be_filled_in(preparer: Preparer) -> None:
    with pytest.raises(Unsupported, match="Infill is not supported"):
        await preparer.prompt(request(InfillInput(("a",), ("b",))), 100)
    with pytest.raises(InvalidRequest, match="token id 259"):
        await preparer.prompt(request(InfillInput(((259,),), ("b",))), 100)
