"""Sampling parameters of `/completion`: what each becomes, and which are refused.

Source: tools/server/server-schema.cpp of llama.cpp b11549, and `task_params::to_json` in
server-task.cpp for `generation_settings`. Penalties look at the whole output and not only at the
last `repeat_last_n` tokens, unless that is 0, which turns them off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import Json, SamplingParams
from trunkline.wire.llamacpp.fields import CompletionFields, limit

# In the order of its default chain, which has no "infill"; the letters are those of a chain given
# as a string.
_CHAIN = {
    "penalties": "e",
    "dry": "d",
    "top_n_sigma": "s",
    "top_k": "k",
    "typ_p": "y",
    "top_p": "p",
    "min_p": "m",
    "xtc": "x",
    "temperature": "t",
    "infill": "i",
}
# Other spellings that it reads.
_ALIASES = {"typical_p": "typ_p", "typical": "typ_p", "top-k": "top_k", "top-p": "top_p"}
_ALIASES |= {"min-p": "min_p", "temp": "temperature", "typ-p": "typ_p"}
# What `generation_settings` tells of it.
_USED = ("penalties", "top_k", "typ_p", "top_p", "min_p", "temperature")
_NO_CHANCE = -1e9
_MAX_BIASES = 4096
_LEAST_SHARE = 1e-6
# What the server calls "random": LLAMA_DEFAULT_SEED.
RANDOM_SEED = 2**32 - 1

_N = TypeVar("_N", int, float)


def sampling(fields: CompletionFields) -> SamplingParams:
    """Sampling parameters with llama.cpp's defaults. Raises `InvalidRequest`, `Unsupported`."""
    on = _chain(fields)
    penalties = "penalties" in on and fields.repeat_last_n != 0
    repeat = _or(fields.repeat_penalty, 1.0) if penalties else 1.0
    if not repeat > 0:
        problem = f"Field 'repeat_penalty': Value must be more than 0, but got {repeat}"
        raise InvalidRequest(problem, param="repeat_penalty")
    wanted = limit(fields)
    probabilities = _or(fields.n_probs, _or(fields.logprobs, 0))
    seed = _or(fields.seed, -1)
    return SamplingParams(
        temperature=max(0.0, _or(fields.temperature, 0.8)) if "temperature" in on else 1.0,
        top_k=max(0, min(_or(fields.top_k, 40), 2**31 - 1)) if "top_k" in on else 0,
        top_p=_share(_or(fields.top_p, 0.95)) if "top_p" in on else 1.0,
        min_p=max(0.0, min(_or(fields.min_p, 0.05), 1.0)) if "min_p" in on else 0.0,
        typical_p=_share(_or(fields.typical_p, 1.0)) if "typ_p" in on else 1.0,
        repetition_penalty=repeat,
        presence_penalty=_or(fields.presence_penalty, 0.0) if penalties else 0.0,
        frequency_penalty=_or(fields.frequency_penalty, 0.0) if penalties else 0.0,
        logit_bias=_biases(fields.logit_bias),
        seed=None if seed in (-1, RANDOM_SEED) else seed & (2**64 - 1),
        # With 0 it predicts one token all the same.
        max_tokens=None if wanted < 0 else max(1, wanted),
        # There the ends of text are made impossible, not passed over. `min_tokens` does that, but
        # it would hold stop strings off as well.
        min_tokens=2**31 - 1 if fields.ignore_eos and not fields.stop else 0,
        ignore_eos=bool(fields.ignore_eos),
        logprobs=probabilities if probabilities > 0 else None,
        infill="infill" in on,
    )


def implied(fields: CompletionFields) -> tuple[str, ...]:
    """What is not asked for, but there by default."""
    names = ("temperature", "top_k", "top_p", "min_p")
    return tuple(name for name in names if getattr(fields, name) is None)


def settings(params: SamplingParams, *, only_sampling: bool = False) -> Json:
    """The part of `generation_settings` that says how tokens are chosen."""
    seed = RANDOM_SEED if params.seed is None else params.seed
    limit_ = -1 if params.max_tokens is None else params.max_tokens
    said: Json = {
        "seed": seed,
        "temperature": params.temperature,
        "dynatemp_range": 0.0,
        "dynatemp_exponent": 1.0,
        "top_k": params.top_k,
        "top_p": params.top_p,
        "min_p": params.min_p,
        "top_n_sigma": -1.0,
        "xtc_probability": 0.0,
        "xtc_threshold": 0.1,
        "typical_p": params.typical_p,
        "repeat_last_n": -1,
        "repeat_penalty": params.repetition_penalty,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "dry_multiplier": 0.0,
        "dry_base": 1.75,
        "dry_allowed_length": 2,
        "dry_penalty_last_n": 64,
        "mirostat": 0,
        "mirostat_tau": 5.0,
        "mirostat_eta": 0.1,
        "adaptive_target": -1.0,
        "adaptive_decay": 0.9,
        "max_tokens": limit_,
        "n_predict": limit_,
        "n_keep": 0,
        "n_discard": 0,
        "ignore_eos": params.ignore_eos,
        "stream": False,
        "n_probs": params.logprobs or 0,
        "min_keep": 0,
        "chat_format": "Content-only",
        "reasoning_format": "none",
        "reasoning_in_content": False,
        "generation_prompt": "",
        "samplers": [*_USED, "infill"] if params.infill else list(_USED),
        "speculative.types": "none",
        "timings_per_token": False,
        "post_sampling_probs": False,
        "backend_sampling": False,
        "lora": [],
    }
    if not only_sampling:
        biases = [{"bias": bias, "token": token} for token, bias in params.logit_bias]
        said |= {
            "dry_sequence_breakers": ["\n", ":", '"', "*"],
            "stop": [],
            "logit_bias": biases,
            "grammar": "",
            "grammar_lazy": False,
            "grammar_triggers": [],
            "preserved_tokens": [],
        }
    return said


def beyond(fields: CompletionFields) -> Mapping[str, str]:
    """What is known and would change the output (`Request.beyond`)."""
    xtc = _or(fields.xtc_probability, 0.0) > 0 and _or(fields.xtc_threshold, 0.1) <= 0.5
    wanted = {
        "post_sampling_probs": bool(fields.post_sampling_probs),
        "dynatemp_range": _or(fields.dynatemp_range, 0.0) != 0,
        "top_n_sigma": _or(fields.top_n_sigma, -1.0) > 0,
        "xtc_probability": xtc,
        "dry_multiplier": _or(fields.dry_multiplier, 0.0) != 0,
        "mirostat": _or(fields.mirostat, 0) > 0,
        "adaptive_target": _or(fields.adaptive_target, -1.0) >= 0,
        # 1 keeps what every chain keeps.
        "min_keep": _or(fields.min_keep, 0) > 1,
        "reasoning_budget_tokens": _or(fields.reasoning_budget_tokens, -1) >= 0,
        "lora": bool(fields.lora),
        "grammar_lazy": bool(fields.grammar_lazy),
        "grammar_triggers": bool(fields.grammar_triggers),
    }
    return {name: f"Field '{name}': not supported" for name, asked in wanted.items() if asked}


def _chain(fields: CompletionFields) -> Sequence[str]:
    """The samplers that are on. Ours run in the default order, so that no other can be had."""
    given = fields.samplers
    if given is None:
        return tuple(name for name in _CHAIN if name != "infill")
    letters = {letter: name for name, letter in _CHAIN.items()}
    names = (
        [letters.get(one, one) for one in given]
        if isinstance(given, str)
        else [_ALIASES.get(one, one) for one in given]
    )
    for name in names:
        if name not in _CHAIN:
            problem = f"Field 'samplers': {name[:40]!r} is not supported"
            raise Unsupported(problem, param="samplers")
    order = list(_CHAIN)
    places = [order.index(name) for name in names]
    if places != sorted(set(places)):
        problem = f"Field 'samplers': only the order {', '.join(order)} is supported"
        raise Unsupported(problem, param="samplers")
    return names


def _biases(given: Any) -> tuple[tuple[int, float], ...]:
    """`logit_bias` as pairs or as an object. Entries that say nothing are passed over, as there."""
    if isinstance(given, dict):
        pairs: list[Any] = [[_id(key), bias] for key, bias in given.items()]
    else:
        pairs = given if isinstance(given, list) else []
    if len(pairs) > _MAX_BIASES:
        problem = f"Field 'logit_bias': more than {_MAX_BIASES} entries"
        raise InvalidRequest(problem, param="logit_bias")
    found: list[tuple[int, float]] = []
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            continue
        token, bias = pair
        if bias is False:
            bias = _NO_CHANCE
        if isinstance(bias, bool) or not isinstance(bias, int | float):
            continue
        if isinstance(token, str):
            problem = f"Field 'logit_bias': {token[:40]!r} is text; only token ids are supported"
            raise Unsupported(problem, param="logit_bias")
        if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < 2**31:
            found.append((token, max(_NO_CHANCE, min(float(bias), -_NO_CHANCE))))
    return tuple(found)


def _id(key: str) -> int | str:
    return int(key) if key.isascii() and key.isdecimal() and len(key) <= 10 else key


def _share(value: float) -> float:
    return max(_LEAST_SHARE, min(value, 1.0))


def _or(value: _N | None, default: _N) -> _N:
    return default if value is None else value
