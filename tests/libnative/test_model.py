"""The C interface: what is wrong comes back in words, whatever it is called with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline.libnative.library import native
from trunkline.libnative.model import NativeFailed, NativeModel
from trunkline.libnative.structs import OK, Kind

SHAPE: dict[str, int | float] = {
    "layers": 1,
    "vocab": 40,
    "embedding": 64,
    "feed_forward": 96,
    "heads": 4,
    "kv_heads": 2,
    "head": 16,
    "rope_size": 16,
    "rope_style": 1,
    "activation": 0,
    "experts": 0,
    "experts_used": 0,
    "experts_renormalized": 0,
    "norm_eps": 1e-5,
    "embedding_scale": 1.0,
    "residual_scale": 1.0,
    "attention_scale": 0.25,
    "logit_scale": 1.0,
    "attention_softcap": 0.0,
    "logit_softcap": 0.0,
    "rope_scale": 1.0,
    "kv_type": 0,
}
SIZES = {
    Kind.TOKEN_EMBEDDING: (40, 64),
    Kind.OUTPUT_NORM: (1, 64),
    Kind.ATTENTION_NORM: (1, 64),
    Kind.Q: (64, 64),
    Kind.K: (32, 64),
    Kind.V: (32, 64),
    Kind.O: (64, 64),
    Kind.FFN_NORM: (1, 64),
    Kind.GATE: (96, 64),
    Kind.UP: (96, 64),
    Kind.DOWN: (64, 96),
}


def new(threads: int = 1, frequencies: Any = None, **changes: int | float) -> NativeModel:
    shape = {**SHAPE, **changes}
    layers = int(shape["layers"])
    if frequencies is None:
        frequencies = np.ones((1, int(shape["rope_size"]) // 2), np.float32)
    return NativeModel(
        native(),
        shape,
        windows=[0] * layers,
        rope=[0] * layers,
        frequencies=frequencies,
        threads=threads,
        cpus=None,
    )


def data(rows: int, cols: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    values = np.random.default_rng(rows * cols).normal(0, 0.1, (rows, cols)).astype(np.float32)
    return values.reshape(-1).view(np.uint8)


@pytest.fixture
def model() -> Iterator[NativeModel]:
    made = new(threads=1)
    yield made
    made.close()


def fill(model: NativeModel, without: Kind | None = None) -> None:
    for kind, (rows, cols) in SIZES.items():
        if kind != without:
            model.put(kind, 0, 0, 0, rows, cols, data(rows, cols))


def arrays(**changes: list[int]) -> dict[str, Any]:
    fields = {
        "ids": [1, 2, 3],
        "chunk_tokens": [3],
        "chunk_start": [0],
        "chunk_table": [0],
        "tables": [0],
        "output_tokens": [2],
        "copy_from": [],
        "copy_to": [],
        **changes,
    }
    return {name: np.array(values, np.int32) for name, values in fields.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": 5000},
        {"vocab": 0},
        {"embedding": 1 << 21},
        {"heads": 3},
        {"kv_heads": 0},
        {"head": 20},
        {"head": 4096},
        {"rope_size": 32},
        {"activation": 7},
        {"rope_style": 2},
        {"experts": 4, "experts_used": 9},
        {"experts": -1},
        {"kv_type": 3},
    ],
)
def test_impossible_shapes(changes: dict[str, int]) -> None:
    with pytest.raises(NativeFailed):
        new(**changes)


def test_threads_have_bounds() -> None:
    with pytest.raises(NativeFailed, match="threads"):
        new(threads=0)
    with pytest.raises(NativeFailed, match="threads"):
        new(threads=1 << 20)


MANY = """
import resource
from tests.libnative.test_model import new
new().close()
with open("/proc/self/statm") as statm:
    size = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (256 << 20),) * 2)
new(threads=1000)
"""


@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer wants address space of its own")
def test_more_threads_than_the_system_has_room_for() -> None:
    """The process goes on: the model is refused, and ggml is there."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join(map(str, (root, root / "src")))
    done = subprocess.run(
        [sys.executable, "-c", MANY],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1, done.stderr
    assert re.search(r"NativeFailed: thread \d+ of 1000 cannot be started", last)


@pytest.mark.parametrize(
    ("kind", "layer", "expert", "type_", "rows", "cols", "size", "message"),
    [
        (Kind.Q, 0, 0, 0, 64, 32, 64 * 32 * 4, "expected 64 x 64"),
        (Kind.Q, 1, 0, 0, 64, 64, 64 * 64 * 4, "layer"),
        (Kind.Q, -1, 0, 0, 64, 64, 64 * 64 * 4, "layer"),
        (Kind.Q, 0, 1, 0, 64, 64, 64 * 64 * 4, "expert"),
        (Kind.Q, 0, 0, 99, 64, 64, 64 * 64 * 4, "no kernel"),
        (Kind.Q, 0, 0, 12, 64, 64, 64 * 36, "no kernel"),
        (Kind.Q, 0, 0, 0, 64, 64, 64 * 64 * 4 - 4, "bytes"),
        (Kind.FFN_NORM, 0, 0, 1, 1, 64, 128, "vector"),
        (Kind.ROUTER, 0, 0, 0, 0, 64, 4, "router"),
        (99, 0, 0, 0, 1, 64, 256, "no such weight"),
    ],
)
def test_weights_that_do_not_fit(
    model: NativeModel,
    kind: Kind,
    layer: int,
    expert: int,
    type_: int,
    rows: int,
    cols: int,
    size: int,
    message: str,
) -> None:
    with pytest.raises(NativeFailed, match=message):
        model.put(kind, layer, expert, type_, rows, cols, np.zeros(size, np.uint8))


@pytest.mark.parametrize("kind", SIZES)
def test_missing_weights(model: NativeModel, kind: Kind) -> None:
    fill(model, without=kind)
    with pytest.raises(NativeFailed, match="missing"):
        model.pack([])


def test_the_order_of_calls_is_checked(model: NativeModel) -> None:
    logits = np.zeros((1, 40), np.float32)
    with pytest.raises(NativeFailed, match="not packed"):
        model.reserve(4)
    fill(model)
    model.pack([])
    with pytest.raises(NativeFailed, match="packed already"):
        model.pack([])
    with pytest.raises(NativeFailed, match="packed already"):
        fill(model)
    with pytest.raises(NativeFailed, match="reserved"):
        model.step(arrays(), logits)
    model.reserve(4)
    with pytest.raises(NativeFailed, match="blocks"):
        model.reserve(4)
    assert model.step(arrays(), logits) == OK
    assert np.isfinite(logits).all()
    assert model.progress == 1.0
    # 2 heads x (16 + 16) x 2 bytes x 32 positions
    assert model.block_bytes == 4096


def test_random_steps_are_refused_or_computed(model: NativeModel) -> None:
    """Every field is random around what is right; addresses are checked by the sanitizers."""
    fill(model)
    model.pack([])
    model.reserve(6)
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    logits = np.zeros((64, 40), np.float32)
    done = 0
    for _ in range(2000):
        sizes = rng.integers(0, 6, int(rng.integers(1, 4)))
        tokens = max(0, int(sizes.sum() + rng.choice([0] * 8 + [-1, 1])))
        step = arrays(
            ids=rng.integers(-1 if rng.random() < 0.1 else 0, 41, tokens).tolist(),
            chunk_tokens=sizes.tolist(),
            chunk_start=rng.integers(-1, 90, len(sizes)).tolist(),
            chunk_table=rng.integers(-1, 4, len(sizes)).tolist(),
            tables=rng.integers(-1 if rng.random() < 0.1 else 0, 7, 8).tolist(),
            output_tokens=rng.integers(-1, 12, int(rng.integers(0, 4))).tolist(),
            copy_from=rng.integers(-1, 7, 1).tolist(),
            copy_to=rng.integers(-1, 7, 1).tolist(),
        )
        try:
            done += model.step(step, logits) == OK
        except NativeFailed:
            pass
    assert 20 < done < 1900


def test_no_room_for_logits(model: NativeModel) -> None:
    fill(model)
    model.pack([])
    model.reserve(4)
    with pytest.raises(NativeFailed, match="no room"):
        model.step(arrays(output_tokens=[0, 1]), np.zeros((1, 40), np.float32))
    with pytest.raises(NativeFailed, match="no room"):
        model.step(arrays(), np.zeros((1, 39), np.float32))
