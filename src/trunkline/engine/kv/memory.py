"""The memory of rows, as the scheduler sees it. Cells and blocks differ below this line only.

A row's memory is a `Lease`. Positions [0, shared) lie in the radix tree and are read-only,
[shared, held) are the row's own. What a row has computed moves into the tree by `insert`, and stays
there when the row leaves, until something else needs the room.

Memory operations that follow from this are collected, in order, until `take` hands them to a plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass

from trunkline.engine.kv.radix import Match, Node, RadixTree
from trunkline.engine.seam import Capabilities, Int32Array, MemoryOp


class Lease:
    """Memory of one row: a sequence id (or slot), a place in the tree, and room of its own."""

    __slots__ = ("blocks", "held", "node", "seq")

    def __init__(self, seq: int, node: Node | None) -> None:
        self.seq = seq
        # Where the shared part ends; None: a sequence id is reserved, no more.
        self.node = node
        # Positions that it has room for.
        self.held = node.end if node else 0
        # Blocks: those that hold [0, held), in order.
        self.blocks: list[int] = []

    @property
    def shared(self) -> int:
        """Positions [0, shared) lie in the tree."""
        return self.node.end if self.node else 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Where all the room is. free + cached + in use = total, for tokens and for sequences."""

    tokens_in_use: int
    tokens_cached: int
    tokens_total: int
    sequences_in_use: int
    sequences_cached: int
    sequences_total: int


class Memory(ABC):
    """Cells or blocks behind one radix tree."""

    def __init__(self, capabilities: Capabilities) -> None:
        self.page = capabilities.page
        self._total = capabilities.kv_tokens // self.page * self.page
        self._sequences = capabilities.sequences
        # Ascending use of low ids first: ggml's work grows with the ids in use.
        self._free_ids = list(range(capabilities.sequences - 1, -1, -1))
        self._tree = RadixTree(self.page)
        self._leases: dict[int, Lease] = {}
        self._ops: list[MemoryOp] = []

    # What a request would get.

    def match(self, root: Hashable, tokens: Int32Array, limit: int) -> Match:
        """The longest prefix of `tokens[:limit]` in the tree, in whole pages."""
        return self._tree.match(root, tokens, limit)

    def missing(self, match: Match, tokens: int) -> int:
        """Room that a row of `tokens` tokens needs besides `match`, in tokens."""
        return -(-tokens // self.page) * self.page - match.length

    def available(self, match: Match) -> int:
        """Tokens that are free or can be evicted, when `match` is to be kept."""
        return self.free + self._tree.cached - match.cached

    # The life of a row.

    def admit(self, match: Match, count: int) -> list[Lease]:
        """Take `match` for one row and reserve sequences for it and for `count` - 1 forks.

        Live rows must leave `count` sequences (cached prefixes are evicted for them), and nothing
        may have changed since `match` was made.
        """
        leases = [self._begin(self._tree.cut(match.node, match.length))]
        leases += [Lease(self._take_id(), None) for _ in range(count - 1)]
        self._leases.update((lease.seq, lease) for lease in leases)
        return leases

    @abstractmethod
    def grow(self, lease: Lease, end: int) -> bool:
        """Make room for positions [0, end), evicting what is cached. False: there is none."""

    def insert(self, lease: Lease, tokens: Int32Array, end: int, busy: bool) -> int:
        """Put the computed `tokens[:end]` in the tree; returns how many of them are there now.

        `busy`: a launched plan refers to the lease. Blocks that are double are then kept until
        the next call, and nothing new is shared.
        """
        end = end // self.page * self.page
        node = lease.node
        assert node is not None
        if end <= node.end:
            return node.end
        below, length = self._tree.descend(node, tokens, end)
        if length > node.end:
            if not self._may_swap(busy):
                return node.end
            below = self._tree.cut(below, length)
            self._swap(lease, node, below)
            self._tree.move(node, below, lease.seq)
            lease.node = node = below
        if end > node.end:
            blocks = self._give(lease, node.end, end)
            lease.node = self._tree.append(node, lease.seq, tokens[node.end : end], blocks)
        return end

    @abstractmethod
    def fork(self, parent: Lease, child: Lease, end: int) -> bool:
        """`child`, a reserved lease, gets positions [0, end) of `parent`, which are inserted.

        False: no room for a copy of the last partial page; `child` stays as it was.
        """

    @abstractmethod
    def release(self, lease: Lease, keep: bool) -> None:
        """The row leaves. What it inserted stays cached; not `keep`: unless others use it."""

    # Plans.

    def take(self) -> tuple[MemoryOp, ...]:
        """The operations that the next plan must carry."""
        ops = tuple(self._ops)
        self._ops.clear()
        return ops

    @property
    def pending(self) -> bool:
        """True: there are operations to carry."""
        return bool(self._ops)

    @abstractmethod
    def table(self, lease: Lease, end: int) -> Int32Array | None:
        """`Chunk.blocks` for positions [0, end)."""

    @abstractmethod
    def span(self, start: int) -> int:
        """KV entries that a token at position `start` costs to attend to."""

    # Accounting.

    @property
    @abstractmethod
    def free(self) -> int:
        """Tokens that nothing holds."""

    @property
    @abstractmethod
    def _cached_ids(self) -> int:
        """Sequences that hold cached prefixes."""

    @property
    def leases(self) -> int:
        """Live leases, reserved ones included."""
        return len(self._leases)

    def shrink(self, most: int) -> None:
        """Evict until at most `most` tokens are cached."""
        if self._tree.cached > most:
            self._evict(self._tree.cached - most)

    def usage(self) -> Usage:
        """Counts; O(1)."""
        cached, ids = self._tree.cached, self._cached_ids
        return Usage(
            self._total - self.free - cached,
            cached,
            self._total,
            self._sequences - len(self._free_ids) - ids,
            ids,
            self._sequences,
        )

    def check(self) -> None:
        """Raise `AssertionError` unless free + cached + in use = all, by a full count."""
        self._tree.check()
        ids = [*self._free_ids, *self._leases, *self._check_cached_ids()]
        assert sorted(ids) == list(range(self._sequences)), "sequence ids leaked or doubled"
        for seq, lease in self._leases.items():
            assert lease.seq == seq, "a lease under a wrong sequence"
            assert lease.held >= lease.shared, "a lease lost its room"
            assert lease.node is None or seq in lease.node.holders, "a lease is not in the tree"
        holders = sum(1 for lease in self._leases.values() if lease.node is not None)
        pinned = sum(len(node.holders) for node in self._tree.nodes())
        rootless = sum(1 for le in self._leases.values() if le.node is not None and not le.shared)
        assert holders == pinned + rootless, "the tree is pinned by rows that are gone"

    # What cells and blocks do differently.

    @abstractmethod
    def _begin(self, node: Node) -> Lease:
        """A lease that ends at `node`, pinned."""

    @abstractmethod
    def _may_swap(self, busy: bool) -> bool:
        """Whether a row may exchange its own tokens for the tree's now."""

    @abstractmethod
    def _swap(self, lease: Lease, node: Node, below: Node) -> None:
        """Exchange [node.end, below.end) of the lease for the tree's; free its own."""

    @abstractmethod
    def _give(self, lease: Lease, start: int, end: int) -> Int32Array:
        """Hand [start, end) of the lease's own room to the tree; returns the blocks, if any."""

    @abstractmethod
    def _evict(self, tokens: int) -> None:
        """Free at least `tokens` cached ones; there are as many."""

    @abstractmethod
    def _take_id(self) -> int:
        """A free sequence id, if need be after evicting."""

    @abstractmethod
    def _check_cached_ids(self) -> list[int]:
        """Sequences that hold cached prefixes, by a full count; checks what else is its own."""
