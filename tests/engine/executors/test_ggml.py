"""The ggml executor with tiny random models: its memory operations change nothing but the cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny_gguf import write_tiny_gguf
from trunkline.core.errors import InvalidRequest
from trunkline.core.types import SamplingParams
from trunkline.engine.config import EngineConfig
from trunkline.engine.executors import ggml
from trunkline.engine.seam import (
    Chunk,
    CopySeq,
    ExecutorFailed,
    MemoryOp,
    OpenRow,
    RowKey,
    StepLost,
    StepPlan,
    StepResult,
    TrimSeq,
)

GREEDY = SamplingParams(temperature=0.0, logprobs=5)
PROMPT = [int(t) for t in np.random.default_rng(3).integers(0, 256, 60)]


class Driver:
    """Plans steps by hand."""

    def __init__(self, executor: ggml.GgmlExecutor) -> None:
        self.executor = executor
        self._step = 0
        self._group = 0

    def row(self, params: SamplingParams = GREEDY, seed: int = 1) -> OpenRow:
        self._group += 1
        return OpenRow(RowKey(self._group, 0), params, seed, np.array(PROMPT, np.int32))

    def step(
        self,
        chunks: Sequence[Chunk] = (),
        rows: Sequence[OpenRow] = (),
        memory: Sequence[MemoryOp] = (),
        close: Sequence[RowKey] = (),
    ) -> StepResult:
        self._step += 1
        plan = StepPlan(self._step, tuple(rows), tuple(close), tuple(memory), tuple(chunks))
        ticket = self.executor.launch(plan)
        self.executor.sample(ticket, None)
        return self.executor.collect(ticket)

    def wipe(self) -> None:
        self.step(memory=[TrimSeq(seq, 0) for seq in range(8)])

    def decode(self, key: RowKey, seq: int, token: int, start: int, count: int) -> list[int]:
        """`count` more tokens of one row whose last token is `token` at position `start`."""
        output = []
        for position in range(start, start + count):
            result = self.step([chunk(key, seq, [token], position, sample=True)])
            token = result.sampled[0].token
            output.append(token)
        return output

    def generate(self, prompt: Sequence[int], seq: int = 0, count: int = 12) -> list[int]:
        """A greedy answer computed in one prefill and single steps."""
        row = self.row()
        first = self.step([chunk(row.key, seq, prompt, 0, sample=True)], [row]).sampled[0].token
        return [first, *self.decode(row.key, seq, first, len(prompt), count)]


def chunk(
    key: RowKey, seq: int, tokens: Sequence[int], start: int, *, sample: bool = False
) -> Chunk:
    return Chunk(key, 0, seq, np.array(tokens, np.int32), start, (key,) if sample else ())


def config(path: Path) -> EngineConfig:
    return EngineConfig(name="tiny", model=str(path), threads=1)


def load(path: Path) -> Driver:
    return Driver(ggml.load(config(path), lambda _: None))


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    driver = load(write_tiny_gguf(path, request.param))
    yield driver
    driver.executor.close()


@pytest.fixture
def driver(loaded: Driver) -> Iterator[Driver]:
    loaded.wipe()
    yield loaded
    loaded.wipe()


@pytest.fixture
def llama(tmp_path: Path) -> Iterator[Driver]:
    driver = load(write_tiny_gguf(tmp_path / "tiny.gguf"))
    yield driver
    driver.executor.close()


def test_capabilities(llama: Driver) -> None:
    found = llama.executor.capabilities
    assert (found.memory, found.page, found.sequences) == ("cells", 1, 256)
    assert found.context == 512
    assert found.kv_tokens == 64 * 512
    # 2 layers x 2 heads x (16 + 16) x 2 bytes
    assert found.kv_bytes_per_token == 256
    assert found.eog == {262, 264}
    assert found.truncate
    assert found.fork


def test_prefill_in_chunks_gives_the_same_text(driver: Driver) -> None:
    whole = driver.generate(PROMPT)
    driver.wipe()
    row = driver.row()
    driver.step([chunk(row.key, 1, PROMPT[:7], 0)], [row])
    driver.step([chunk(row.key, 1, PROMPT[7:40], 7)])
    last = driver.step([chunk(row.key, 1, PROMPT[40:], 40, sample=True)])
    token = last.sampled[0].token
    assert [token, *driver.decode(row.key, 1, token, len(PROMPT), 12)] == whole


def test_a_shared_prefix_gives_the_same_text(driver: Driver) -> None:
    other = PROMPT[:40] + PROMPT[:20]
    whole = driver.generate(other)
    driver.wipe()
    driver.generate(PROMPT)
    row = driver.row()
    result = driver.step(
        [chunk(row.key, 5, other[40:], 40, sample=True)], [row], [CopySeq(0, 5, 0, 40)]
    )
    token = result.sampled[0].token
    assert [token, *driver.decode(row.key, 5, token, len(other), 12)] == whole


def test_the_donor_may_go_while_its_cells_are_shared(driver: Driver) -> None:
    whole = driver.generate(PROMPT)
    driver.step(memory=[CopySeq(0, 3, 0, len(PROMPT) - 1), TrimSeq(0, 0)])
    row = driver.row()
    key = row.key
    start = len(PROMPT) - 1
    token = driver.step([chunk(key, 3, PROMPT[-1:], start, sample=True)], [row]).sampled[0].token
    assert [token, *driver.decode(key, 3, token, len(PROMPT), 12)] == whole


def test_trimmed_and_computed_again(driver: Driver) -> None:
    """For gemma3 the cut lies further back than its window of 32: its cache is full-size."""
    whole = driver.generate(PROMPT)
    row = driver.row()
    cut = [TrimSeq(0, 10)]
    result = driver.step([chunk(row.key, 0, PROMPT[10:], 10, sample=True)], [row], cut)
    token = result.sampled[0].token
    assert [token, *driver.decode(row.key, 0, token, len(PROMPT), 12)] == whole


def test_rows_fork_after_one_prefill(driver: Driver) -> None:
    whole = driver.generate(PROMPT)
    driver.wipe()
    rows = [driver.row() for _ in range(4)]
    keys = tuple(row.key for row in rows)
    prefill = Chunk(keys[0], 0, 0, np.array(PROMPT, np.int32), 0, keys)
    result = driver.step([prefill], rows)
    assert [one.key for one in result.sampled] == list(keys)
    tokens = {one.key: one.token for one in result.sampled}
    output = {key: [tokens[key]] for key in keys}
    size = len(PROMPT)
    memory = [CopySeq(0, seq, 0, size) for seq in range(1, 4)]
    for position in range(size, size + 12):
        chunks = [
            chunk(key, seq, [tokens[key]], position, sample=True) for seq, key in enumerate(keys)
        ]
        tokens = {one.key: one.token for one in driver.step(chunks, memory=memory).sampled}
        memory = []
        for key in keys:
            output[key].append(tokens[key])
    assert all(text == whole for text in output.values())


def test_equal_seeds_give_equal_text_whoever_shares_the_batch(llama: Driver) -> None:
    params = SamplingParams(temperature=1.0, top_p=0.9)

    def text(seeds: Sequence[int]) -> list[list[int]]:
        llama.wipe()
        rows = [llama.row(params, seed) for seed in seeds]
        chunks = [chunk(r.key, s, PROMPT, 0, sample=True) for s, r in enumerate(rows)]
        result = llama.step(chunks, rows)
        found = [[one.token] for one in result.sampled]
        for position in range(len(PROMPT), len(PROMPT) + 10):
            chunks = [
                chunk(r.key, s, [found[s][-1]], position, sample=True) for s, r in enumerate(rows)
            ]
            for texts, one in zip(found, llama.step(chunks).sampled, strict=True):
                texts.append(one.token)
        return found

    (alone,) = text([7])
    together = text([5, 7, 6])
    assert together[1] == alone
    assert together[0] != alone


def test_256_sequences_decode_together(llama: Driver) -> None:
    rows = [llama.row() for _ in range(256)]
    chunks = [chunk(r.key, seq, PROMPT[:3], 0, sample=True) for seq, r in enumerate(rows)]
    result = llama.step(chunks, rows)
    assert len({one.token for one in result.sampled}) == 1
    assert [one.key for one in result.sampled] == [row.key for row in rows]
    assert 0 < result.sampling_seconds < result.seconds
    llama.step(close=[row.key for row in rows])


def test_an_aborted_pass_loses_its_sequences_and_no_other(llama: Driver) -> None:
    whole = llama.generate(PROMPT, seq=0)
    row = llama.row()
    llama.executor.abort()
    with pytest.raises(StepLost, match="aborted") as caught:
        llama.step([chunk(row.key, 1, PROMPT, 0, sample=True)], [row])
    assert caught.value.keys == (row.key,)
    context = llama.executor._context
    context.resume()
    assert context.span(1) == (-1, -1)
    assert context.span(0)[1] >= len(PROMPT)
    again = llama.step([chunk(row.key, 1, PROMPT, 0, sample=True)])
    token = again.sampled[0].token
    assert [token, *llama.decode(row.key, 1, token, len(PROMPT), 12)] == whole


@pytest.mark.parametrize(
    ("status", "reason"), [(-2, "memory could not"), (-3, "computation failed"), (-9, "is -9")]
)
def test_a_pass_that_fails_leaves_nothing_that_nobody_knows(
    llama: Driver, monkeypatch: pytest.MonkeyPatch, status: int, reason: str
) -> None:
    """How far it came is not said: its sequences are computed again, the others stay."""
    whole = llama.generate(PROMPT, seq=0)
    context, row = llama.executor._context, llama.row()
    decode = context.decode
    with monkeypatch.context() as patch:
        patch.setattr(context, "decode", lambda count: min(decode(count), status))
        with pytest.raises(StepLost, match=reason) as caught:
            llama.step([chunk(row.key, 1, PROMPT, 0, sample=True)], [row])
    assert caught.value.keys == (row.key,)
    assert context.span(1) == (-1, -1)
    assert context.span(0)[1] >= len(PROMPT)
    token = llama.step([chunk(row.key, 1, PROMPT, 0, sample=True)]).sampled[0].token
    assert [token, *llama.decode(row.key, 1, token, len(PROMPT), 12)] == whole


def test_impossible_plans_are_errors_not_crashes(llama: Driver) -> None:
    row = llama.row()
    with pytest.raises(ExecutorFailed, match="memory operation"):
        llama.step(memory=[CopySeq(0, 256, 0, 4)])
    with pytest.raises(ExecutorFailed, match="too big"):
        llama.step([chunk(row.key, 0, [1] * 5000, 0)])
    llama.step([chunk(row.key, 0, [1, 2], 0)], [row])
    # A gap between positions 1 and 7.
    with pytest.raises(StepLost, match="invalid"):
        llama.step([chunk(row.key, 0, [1], 7)])
    assert len(llama.generate(PROMPT)) == 13


def test_logits_that_are_no_numbers_fail_the_row_alone(tmp_path: Path) -> None:
    driver = load(write_tiny_gguf(tmp_path / "nan.gguf", poison=True))
    row = driver.row()
    result = driver.step([chunk(row.key, 0, PROMPT, 0, sample=True)], [row])
    assert result.sampled == ()
    assert result.failed[0].key == row.key
    assert "not numbers" in result.failed[0].error.message
    driver.executor.close()


def test_a_recurrent_model_cannot_truncate_but_forks(tmp_path: Path) -> None:
    driver = load(write_tiny_gguf(tmp_path / "mamba.gguf", "mamba"))
    assert not driver.executor.capabilities.truncate
    assert driver.executor.capabilities.sequences == 64
    whole = driver.generate(PROMPT)
    driver.wipe()
    rows = [driver.row(), driver.row()]
    size = len(PROMPT)
    prefill = Chunk(
        rows[0].key, 0, 0, np.array(PROMPT, np.int32), 0, tuple(row.key for row in rows)
    )
    token = driver.step([prefill], rows).sampled[0].token
    driver.step(memory=[CopySeq(0, 1, 0, size)])
    for seq, row in enumerate(rows):
        assert [token, *driver.decode(row.key, seq, token, size, 12)] == whole
    with pytest.raises(ExecutorFailed, match="cannot do"):
        driver.step(memory=[TrimSeq(0, 5)])
    driver.executor.close()


def test_progress_is_reported(tmp_path: Path) -> None:
    seen: list[float] = []
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    ggml.load(config(path), seen.append).close()
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_close_ends_a_pass_that_runs(tmp_path: Path) -> None:
    driver = load(write_tiny_gguf(tmp_path / "tiny.gguf"))
    chunks = [chunk(RowKey(n, 0), n, PROMPT[:8], 0) for n in range(250)]
    driver.executor.launch(StepPlan(1, (), (), (), tuple(chunks)))
    driver.executor.close()
    assert not driver.executor._thread.is_alive()


def test_idle_costs_nothing(llama: Driver) -> None:
    llama.generate(PROMPT)
    # What other tests have left in this process may have something to do now and then.
    assert any(_computed(0.4) < 0.02 for _ in range(10))


def _computed(seconds: float) -> float:
    """Processor time of this process meanwhile."""
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(seconds)
    return time.process_time() - before


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({".pooling_type": 3}, "embeddings"),
        ({".attention.causal": False}, "embeddings"),
        ({"general.architecture": "unheard-of"}, "block_count"),
        ({".block_count": 0}, "block_count"),
        ({".block_count": 3}, "blk.2"),
        ({"tokenizer.ggml.eos_token_id": 9999}, "outside a vocabulary"),
    ],
)
def test_models_that_cannot_be_served(
    tmp_path: Path, metadata: dict[str, int | str], message: str
) -> None:
    path = write_tiny_gguf(tmp_path / "bad.gguf", metadata=metadata)
    with pytest.raises(InvalidRequest, match=message):
        load(path)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    with pytest.raises(InvalidRequest, match="No such file"):
        load(path)
    path.write_bytes(b"x" * 100)
    with pytest.raises(InvalidRequest, match="no GGUF file"):
        load(path)
    whole = write_tiny_gguf(tmp_path / "whole.gguf").read_bytes()
    path.write_bytes(whole[:-1000])
    with pytest.raises(InvalidRequest, match="incomplete download"):
        load(path)
