"""`options`: names, types, defaults, and what becomes of them here.

Source: `Options`, `FromMap`, `DefaultOptions` in api/types.go of ollama/ollama fb30760
(2026-08-21). Unknown options are ignored there and here; a wrong type gives Ollama's own text.
Load-time options (num_gpu, num_batch and so on) are accepted and have nothing to act on: the model
is loaded as the server was told. They are for who loads models by itself; where another server
answers, its client is told that they are left out. Penalties look at the whole output and not only
at the last `repeat_last_n` tokens, unless that is 0, which turns them off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import SamplingParams

_INTEGERS = frozenset(
    (
        "num_keep",
        "seed",
        "num_predict",
        "top_k",
        "repeat_last_n",
        "num_ctx",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "num_thread",
        "draft_num_predict",
    )
)
_FLOATS = frozenset(
    (
        "top_p",
        "min_p",
        "typical_p",
        "temperature",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
    )
)
# All options that there are.
NAMES = _INTEGERS | _FLOATS | {"use_mmap", "stop"}
# What has a default other than the neutral one.
_DEFAULTED = ("temperature", "top_k", "top_p")
# Option -> field of `SamplingParams`, where a given value may be the neutral one.
_FIELDS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_NEUTRAL = SamplingParams()
# What only a server that loads models by itself can act on.
OF_LOADING = (
    "num_ctx",
    "num_keep",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "draft_num_predict",
    "use_mmap",
)
_MAX_STOPS = 64
# llama.cpp keeps the best token alone at 0; our filters want a share above 0.
_LEAST_SHARE = 1e-6


class Options(msgspec.Struct, frozen=True):
    """What a request's options ask for."""

    sampling: SamplingParams
    stop: tuple[str, ...]
    # 0 = not given.
    num_ctx: int
    # Of `sampling`, what is not given but there by default.
    implied: tuple[str, ...] = ()
    # As of `Request`.
    explicit: tuple[str, ...] = ()
    notes: Mapping[str, Any] = {}


def read_options(given: Mapping[str, Any] | None, logprobs: int | None) -> Options:
    """Check and apply. Raises `InvalidRequest`."""
    options = {name: _checked(name, value) for name, value in (given or {}).items()}
    options = {name: value for name, value in options.items() if value is not None}
    seed = options.get("seed", -1)
    num_predict = options.get("num_predict", -1)
    penalties = options.get("repeat_last_n", 64) != 0
    repeat = options.get("repeat_penalty", 1.0) if penalties else 1.0
    if not repeat > 0:
        raise InvalidRequest('option "repeat_penalty" must be more than 0', param="options")
    sampling = SamplingParams(
        temperature=max(0.0, options.get("temperature", 0.8)),
        top_k=max(0, min(options.get("top_k", 40), 2**31 - 1)),
        top_p=_share(options.get("top_p", 0.9)),
        min_p=max(0.0, min(options.get("min_p", 0.0), 1.0)),
        typical_p=_share(options.get("typical_p", 1.0)),
        repetition_penalty=repeat,
        presence_penalty=options.get("presence_penalty", 0.0) if penalties else 0.0,
        frequency_penalty=options.get("frequency_penalty", 0.0) if penalties else 0.0,
        seed=None if seed == -1 else seed & (2**64 - 1),
        # -1: no limit, -2: until the context is full. Both end there.
        max_tokens=num_predict if num_predict > 0 else None,
        logprobs=logprobs,
    )
    stops, context = _stops(options.get("stop", ())), max(0, options.get("num_ctx", 0))
    return Options(
        sampling,
        stops,
        context,
        implied=tuple(name for name in _DEFAULTED if name not in options),
        explicit=tuple(
            field
            for name, field in _FIELDS.items()
            if name in options and getattr(sampling, field) == getattr(_NEUTRAL, field)
        ),
        notes={f"options.{name}": options[name] for name in OF_LOADING if name in options},
    )


def _share(value: float) -> float:
    return max(_LEAST_SHARE, min(value, 1.0))


def _checked(name: str, value: Any) -> Any:
    """`value` in its type; None for an option that says nothing here."""
    if value is None:
        return None
    if name in _INTEGERS:
        # Ollama cuts fractions off.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(name, "integer")
        return int(_finite(name, value))
    if name in _FLOATS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(name, "float32")
        return _finite(name, float(value))
    if name == "use_mmap":
        if not isinstance(value, bool):
            raise _wrong(name, "boolean")
        return value
    if name != "stop":
        return None
    if not isinstance(value, list):
        raise _wrong(name, "array")
    if not all(isinstance(one, str) for one in value):
        raise InvalidRequest('option "stop" must be of an array of strings', param="options")
    return tuple(value)


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise InvalidRequest(f'option "{name}" is out of range', param="options")
    return value


def _stops(stops: tuple[str, ...]) -> tuple[str, ...]:
    if len(stops) > _MAX_STOPS:
        raise InvalidRequest(f'option "stop" holds more than {_MAX_STOPS} strings', param="options")
    # llama.cpp passes empty ones over.
    return tuple(stop for stop in stops if stop)


def _wrong(name: str, kind: str) -> InvalidRequest:
    return InvalidRequest(f'option "{name}" must be of type {kind}', param="options")
