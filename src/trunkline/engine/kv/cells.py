"""Cells (ggml): any token anywhere; sequences share cells by metadata.

Every token in the tree is one cell, held by at least one sequence: by those of the live rows that
end in the node or below it, else by the *donor*, a sequence that belongs to a cached leaf. So a hit
is CopySeq, and there is a donor exactly where a leaf has no row. Rows own the cells of
[shared, held) alone. Sequence ids run short as well as cells: rows and donors share them.
"""

from __future__ import annotations

import numpy as np

from trunkline.engine.kv.memory import Lease, Memory
from trunkline.engine.kv.radix import Node
from trunkline.engine.seam import Capabilities, CopySeq, Int32Array, TrimSeq

_NO_BLOCKS: Int32Array = np.empty(0, np.int32)


class CellMemory(Memory):
    """See the module. `page` is 1."""

    def __init__(self, capabilities: Capabilities) -> None:
        super().__init__(capabilities)
        # Cells of [shared, held), of all rows.
        self._private = 0
        self._donors = 0

    @property
    def free(self) -> int:
        """Cells that no sequence holds."""
        return self._total - self._tree.size - self._private

    @property
    def _cached_ids(self) -> int:
        return self._donors

    def grow(self, lease: Lease, end: int) -> bool:
        """Reserve cells; they come into being when a pass fills them."""
        need = end - lease.held
        if need <= 0:
            return True
        if need > self.free + self._tree.cached:
            return False
        if need > self.free:
            self._evict(need - self.free)
        lease.held = end
        self._private += need
        return True

    def fork(self, parent: Lease, child: Lease, end: int) -> bool:
        """Always possible: `end` lies in the tree."""
        assert parent.shared == end
        assert parent.node is not None
        self._ops.append(CopySeq(parent.seq, child.seq, 0, end))
        child.node, child.held = parent.node, end
        self._tree.pin(parent.node, child.seq)
        return True

    def release(self, lease: Lease, keep: bool) -> None:
        """The sequence becomes the donor of the leaf that it leaves uncovered, or is freed."""
        node, seq = lease.node, lease.seq
        del self._leases[seq]
        if node is None:
            self._free_ids.append(seq)
            return
        self._private -= lease.held - lease.shared
        self._tree.unpin(node, seq)
        if keep and node.idle_leaf:
            self._donate(node, seq, lease.held)
            return
        self._forget(seq)
        # The rest of the chain that only this sequence held.
        while node.idle_leaf and node.donor < 0:
            node = self._tree.remove(node)

    def table(self, lease: Lease, end: int) -> Int32Array | None:
        """Cells need none."""
        return None

    def span(self, start: int) -> int:
        """libllama's graph spans the cells up to the highest in use, whoever's they are."""
        return self._total - self.free

    def _begin(self, node: Node) -> Lease:
        while node.donor < 0 and not self._free_ids:
            self._evict_chain(node)
        if node.donor >= 0:
            # The whole leaf is matched: its donor becomes the row's sequence as it is.
            seq, node.donor = node.donor, -1
            self._donors -= 1
        else:
            seq = self._free_ids.pop()
            if node.end:
                self._ops.append(CopySeq(self._cover(node), seq, 0, node.end))
        self._tree.pin(node, seq)
        return Lease(seq, node)

    def _may_swap(self, busy: bool) -> bool:
        # Operations run after the plans that are under way.
        return True

    def _swap(self, lease: Lease, node: Node, below: Node) -> None:
        start, end = node.end, below.end
        self._ops.append(TrimSeq(lease.seq, start, end))
        self._ops.append(CopySeq(self._cover(below), lease.seq, start, end))
        self._drop_donor(below)
        self._private -= end - start

    def _give(self, lease: Lease, start: int, end: int) -> Int32Array:
        self._private -= end - start
        return _NO_BLOCKS

    def _evict(self, tokens: int) -> None:
        while tokens > 0:
            leaf = self._tree.oldest()
            assert leaf is not None, "nothing to evict"
            size = len(leaf.tokens)
            if size > tokens:
                self._tree.shorten(leaf, tokens)
                self._ops.append(TrimSeq(leaf.donor, leaf.end))
                return
            self._evict_leaf(leaf)
            tokens -= size

    def _evict_leaf(self, leaf: Node) -> None:
        seq, leaf.donor = leaf.donor, -1
        self._donors -= 1
        parent = self._tree.remove(leaf)
        if parent.idle_leaf:
            self._donate(parent, seq, leaf.end)
        else:
            self._forget(seq)

    def _take_id(self) -> int:
        while not self._free_ids:
            self._evict_chain(None)
        return self._free_ids.pop()

    def _evict_chain(self, keep: Node | None) -> None:
        # From the oldest leaf up to where others cover the path, which frees an id, or to `keep`.
        leaf = self._tree.oldest()
        assert leaf is not None, "no sequence to evict"
        while leaf.idle_leaf and leaf is not keep:
            parent = leaf.parent
            assert parent is not None
            self._evict_leaf(leaf)
            leaf = parent

    def _donate(self, leaf: Node, seq: int, held: int) -> None:
        leaf.donor = seq
        self._donors += 1
        if held > leaf.end:
            self._ops.append(TrimSeq(seq, leaf.end))

    def _drop_donor(self, node: Node) -> None:
        if node.donor >= 0:
            self._forget(node.donor)
            node.donor = -1
            self._donors -= 1

    def _forget(self, seq: int) -> None:
        self._ops.append(TrimSeq(seq, 0))
        self._free_ids.append(seq)

    def _cover(self, node: Node) -> int:
        """A sequence that holds all positions up to the end of `node`."""
        while True:
            if node.donor >= 0:
                return node.donor
            if node.holders:
                return next(iter(node.holders))
            node = next(iter(node.children.values()))

    def _check_cached_ids(self) -> list[int]:
        donors: list[int] = []
        for node in self._tree.nodes():
            assert (node.donor >= 0) == node.idle_leaf, "a leaf without a donor, or one too many"
            if node.donor >= 0:
                donors.append(node.donor)
        private = sum(lease.held - lease.shared for lease in self._leases.values())
        assert private == self._private, "cells leaked"
        assert self.free >= 0, "more cells than there are"
        assert len(donors) == self._donors, "donors are miscounted"
        return donors
