"""Cells and blocks, below any policy: what operations they ask for, and that all adds up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.engine.fakes import blocks, cells
from trunkline.engine.kv import Lease, Memory, create_memory
from trunkline.engine.seam import Capabilities, CopyBlock, CopySeq, Int32Array, TrimSeq

ROOT = b"root"


def tokens(start: int, length: int) -> Int32Array:
    """Token ids that differ from those of another `start`."""
    return np.arange(start * 1000, start * 1000 + length, dtype=np.int32)


def enter(memory: Memory, prompt: Int32Array, count: int = 1) -> list[Lease]:
    """A row with `prompt` comes in and computes it."""
    match = memory.match(ROOT, prompt, len(prompt) - 1)
    leases = memory.admit(match, count)
    assert memory.grow(leases[0], len(prompt))
    memory.insert(leases[0], prompt, len(prompt), busy=False)
    memory.check()
    return leases


def leave(memory: Memory, lease: Lease, *, keep: bool = True) -> None:
    """The row goes."""
    memory.release(lease, keep)
    memory.check()


# Cells ----------------------------------------------------------------------------------------


def test_a_leaf_that_is_matched_whole_lends_its_donor() -> None:
    memory = create_memory(cells())
    (first,) = enter(memory, tokens(1, 10))
    leave(memory, first)
    memory.take()
    (second,) = enter(memory, np.concatenate((tokens(1, 10), tokens(2, 5))))
    assert second.seq == first.seq
    assert memory.take() == ()


def test_a_partial_hit_copies_from_the_donor() -> None:
    memory = create_memory(cells())
    (first,) = enter(memory, tokens(1, 10))
    leave(memory, first)
    memory.take()
    (second,) = enter(memory, np.concatenate((tokens(1, 6), tokens(2, 5))))
    assert memory.take() == (CopySeq(first.seq, second.seq, 0, 6),)
    usage = memory.usage()
    assert (usage.tokens_in_use, usage.tokens_cached) == (11, 4)
    assert (usage.sequences_in_use, usage.sequences_cached) == (1, 1)


def test_a_live_row_is_a_donor_too() -> None:
    memory = create_memory(cells())
    (first,) = enter(memory, tokens(1, 10))
    match = memory.match(ROOT, tokens(1, 11), 10)
    assert (match.length, match.cached) == (10, 0)
    (second,) = memory.admit(match, 1)
    assert memory.take() == (CopySeq(first.seq, second.seq, 0, 10),)
    leave(memory, first)
    # The second row covers the path: the first one's sequence is free.
    assert memory.take() == (TrimSeq(first.seq, 0),)
    assert memory.usage().sequences_cached == 0


def test_what_is_computed_twice_is_kept_once() -> None:
    memory = create_memory(cells())
    prompt = tokens(1, 10)
    nothing = memory.match(ROOT, prompt, 0)
    (first,) = memory.admit(nothing, 1)
    (second,) = memory.admit(memory.match(ROOT, prompt, 0), 1)
    for lease in (first, second):
        assert memory.grow(lease, 10)
    assert memory.usage().tokens_in_use == 20
    memory.insert(first, prompt, 10, busy=False)
    memory.insert(second, prompt, 8, busy=False)
    memory.check()
    assert memory.take() == (TrimSeq(second.seq, 0, 8), CopySeq(first.seq, second.seq, 0, 8))
    assert memory.usage().tokens_in_use == 12


def test_evicting_a_tail_passes_the_donor_to_the_parent() -> None:
    memory = create_memory(cells(kv_tokens=20))
    (first,) = enter(memory, tokens(1, 6))
    (second,) = enter(memory, np.concatenate((tokens(1, 4), tokens(2, 4))))
    leave(memory, first)
    leave(memory, second)
    memory.take()
    # 10 tokens are cached in three nodes. The oldest leaf goes, its id with it; then the tail of
    # the other.
    (third,) = memory.admit(memory.match(b"other", tokens(9, 13), 12), 1)
    assert memory.grow(third, 13)
    memory.check()
    assert memory.take() == (TrimSeq(first.seq, 0), TrimSeq(second.seq, 7))
    assert memory.grow(third, 17)
    memory.check()
    # The last leaf is gone whole: its donor holds what is left of the parent.
    assert memory.take() == (TrimSeq(second.seq, 4), TrimSeq(second.seq, 3))
    assert not memory.grow(third, 21)
    memory.check()


def test_ids_run_short_and_whole_chains_go() -> None:
    memory = create_memory(cells(sequences=2))
    (first,) = enter(memory, tokens(1, 10))
    (second,) = enter(memory, np.concatenate((tokens(1, 5), tokens(2, 5))))
    leave(memory, first)
    leave(memory, second)
    assert memory.usage().sequences_cached == 2
    enter(memory, tokens(3, 4), count=2)
    usage = memory.usage()
    assert (usage.sequences_in_use, usage.sequences_cached, usage.tokens_cached) == (2, 0, 0)


def test_taking_an_id_never_loses_what_is_matched() -> None:
    """All ids are donors, and the oldest is the only cover of the prefix that is wanted."""
    memory = create_memory(cells(sequences=2))
    prompt = tokens(1, 10)
    (first,) = enter(memory, prompt)
    leave(memory, first)
    (other,) = enter(memory, tokens(2, 10))
    leave(memory, other)
    memory.take()
    (row,) = memory.admit(memory.match(ROOT, tokens(1, 6), 5), 1)
    memory.check()
    assert row.shared == 5
    assert row.seq == first.seq
    assert memory.take() == (TrimSeq(first.seq, 5),)


def test_a_lost_row_takes_along_what_only_it_held() -> None:
    memory = create_memory(cells())
    (first,) = enter(memory, tokens(1, 10))
    (second,) = enter(memory, np.concatenate((tokens(1, 4), tokens(2, 4))))
    leave(memory, first, keep=False)
    assert memory.usage().tokens_in_use == 8
    assert memory.usage().tokens_cached == 0
    leave(memory, second, keep=False)
    assert memory.usage().tokens_cached == 0


def test_forks_copy_the_sequence() -> None:
    memory = create_memory(cells())
    parent, *children = enter(memory, tokens(1, 10), count=3)
    memory.take()
    for child in children:
        assert memory.fork(parent, child, 10)
    memory.check()
    assert memory.take() == tuple(CopySeq(parent.seq, c.seq, 0, 10) for c in children)
    assert memory.usage().tokens_in_use == 10


# Blocks ---------------------------------------------------------------------------------------


def test_full_blocks_are_lent_and_the_tail_is_private() -> None:
    memory = create_memory(blocks())
    (first,) = enter(memory, tokens(1, 10))
    (second,) = enter(memory, tokens(1, 10))
    assert second.blocks[:2] == first.blocks[:2]
    assert second.blocks[2] != first.blocks[2]
    assert memory.usage().tokens_in_use == 16
    table = memory.table(second, 9)
    assert table is not None
    assert table.tolist() == second.blocks


def test_a_fork_copies_the_partial_block() -> None:
    memory = create_memory(blocks())
    parent, child = enter(memory, tokens(1, 10), count=2)
    assert memory.fork(parent, child, 10)
    memory.check()
    assert memory.take() == (CopyBlock(parent.blocks[2], child.blocks[2]),)
    assert child.blocks[:2] == parent.blocks[:2]


def test_a_fork_at_a_block_s_end_copies_nothing() -> None:
    memory = create_memory(blocks())
    parent, child = enter(memory, tokens(1, 8), count=2)
    assert memory.fork(parent, child, 8)
    assert memory.take() == ()
    assert child.blocks == parent.blocks


def test_a_fork_without_room_changes_nothing() -> None:
    memory = create_memory(blocks(kv_tokens=12))
    parent, child = enter(memory, tokens(1, 10), count=2)
    assert not memory.fork(parent, child, 10)
    memory.check()
    assert child.node is None


def test_double_blocks_are_exchanged_only_when_no_plan_reads_them() -> None:
    memory = create_memory(blocks())
    prompt = tokens(1, 10)
    leases = [memory.admit(memory.match(ROOT, prompt, 0), 1)[0] for _ in range(2)]
    for lease in leases:
        assert memory.grow(lease, 10)
    first, second = leases
    own = list(second.blocks)
    assert memory.insert(first, prompt, 10, busy=True) == 8
    assert memory.insert(second, prompt, 10, busy=True) == 0
    assert second.blocks == own
    assert memory.insert(second, prompt, 10, busy=False) == 8
    memory.check()
    assert second.blocks[:2] == first.blocks[:2]
    assert second.blocks[2] == own[2]


def test_blocks_are_evicted_by_need() -> None:
    memory = create_memory(blocks(kv_tokens=40))
    (first,) = enter(memory, tokens(1, 32))
    leave(memory, first)
    assert memory.usage().tokens_cached == 32
    (second,) = memory.admit(memory.match(b"other", tokens(2, 17), 16), 1)
    assert memory.grow(second, 17)
    memory.check()
    assert memory.usage().tokens_cached == 20
    assert memory.match(ROOT, tokens(1, 32), 32).length == 20


# Both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [cells, blocks])
def test_shrink(make: Callable[[], Capabilities]) -> None:
    memory = create_memory(make())
    for start in range(3):
        (lease,) = enter(memory, tokens(start, 20))
        leave(memory, lease)
    memory.shrink(24)
    memory.check()
    assert memory.usage().tokens_cached == 24
    memory.shrink(24)
    assert memory.usage().tokens_cached == 24


def test_check_notices_a_leak() -> None:
    memory = create_memory(cells())
    (lease,) = enter(memory, tokens(1, 10))
    lease.held += 1
    with pytest.raises(AssertionError, match="cells leaked"):
        memory.check()
