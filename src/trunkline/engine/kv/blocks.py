"""Blocks: tokens lie in blocks of `page` tokens, and each row has a table of them.

Full blocks move into the tree, which owns them from then on and lends them read-only; a row owns
the others of its table. A fork copies the partial one at the end.
"""

from __future__ import annotations

import numpy as np

from trunkline.engine.kv.memory import Lease, Memory
from trunkline.engine.kv.radix import Node
from trunkline.engine.seam import Capabilities, CopyBlock, Int32Array


class BlockMemory(Memory):
    """See the module. Sequences are the slots of live rows; nothing cached needs one."""

    def __init__(self, capabilities: Capabilities) -> None:
        super().__init__(capabilities)
        self._free_blocks = list(range(self._total // self.page - 1, -1, -1))

    @property
    def free(self) -> int:
        """Tokens in free blocks."""
        return len(self._free_blocks) * self.page

    @property
    def _cached_ids(self) -> int:
        return 0

    def grow(self, lease: Lease, end: int) -> bool:
        """Add blocks to the table."""
        need = -(-end // self.page) - len(lease.blocks)
        if need > 0:
            if not self._make_room(need):
                return False
            lease.blocks += [self._free_blocks.pop() for _ in range(need)]
        lease.held = max(lease.held, end)
        return True

    def fork(self, parent: Lease, child: Lease, end: int) -> bool:
        """Full blocks are shared, the partial one is copied."""
        node = parent.node
        assert node is not None
        assert end - node.end < self.page
        partial = end > node.end
        if partial and not self._make_room(1):
            return False
        child.node, child.held = node, end
        self._tree.pin(node, child.seq)
        shared = node.end // self.page
        child.blocks = parent.blocks[:shared]
        if partial:
            copy = self._free_blocks.pop()
            self._ops.append(CopyBlock(parent.blocks[shared], copy))
            child.blocks.append(copy)
        return True

    def release(self, lease: Lease, keep: bool) -> None:
        """Free the row's own blocks and its slot."""
        del self._leases[lease.seq]
        self._free_ids.append(lease.seq)
        node = lease.node
        if node is None:
            return
        self._free_blocks += lease.blocks[node.end // self.page :]
        self._tree.unpin(node, lease.seq)
        while not keep and node.idle_leaf:
            node = self._drop(node)

    def table(self, lease: Lease, end: int) -> Int32Array | None:
        """A copy: the table may change while the plan is under way."""
        return np.array(lease.blocks[: -(-end // self.page)], np.int32)

    def span(self, start: int) -> int:
        """A row attends to its own positions."""
        return start

    def _begin(self, node: Node) -> Lease:
        seq = self._take_id()
        self._tree.pin(node, seq)
        lease = Lease(seq, node)
        parts = [step.blocks for step in node.path()]
        if parts:
            lease.blocks = np.concatenate(parts[::-1]).tolist()
        return lease

    def _may_swap(self, busy: bool) -> bool:
        # A plan that is under way reads the row's own blocks.
        return not busy

    def _swap(self, lease: Lease, node: Node, below: Node) -> None:
        first, last = node.end // self.page, below.end // self.page
        self._free_blocks += lease.blocks[first:last]
        parts: list[Int32Array] = []
        for step in below.path():
            if step is node:
                break
            parts.append(step.blocks)
        lease.blocks[first:last] = np.concatenate(parts[::-1]).tolist()

    def _give(self, lease: Lease, start: int, end: int) -> Int32Array:
        return np.array(lease.blocks[start // self.page : end // self.page], np.int32)

    def _make_room(self, blocks: int) -> bool:
        short = blocks - len(self._free_blocks)
        if short * self.page > self._tree.cached:
            return False
        if short > 0:
            self._evict(short * self.page)
        return True

    def _evict(self, tokens: int) -> None:
        tokens = -(-tokens // self.page) * self.page
        while tokens > 0:
            leaf = self._tree.oldest()
            assert leaf is not None, "nothing to evict"
            size = len(leaf.tokens)
            if size > tokens:
                first = (size - tokens) // self.page
                self._free_blocks += leaf.blocks[first:].tolist()
                self._tree.shorten(leaf, tokens)
                return
            self._drop(leaf)
            tokens -= size

    def _drop(self, leaf: Node) -> Node:
        self._free_blocks += leaf.blocks.tolist()
        return self._tree.remove(leaf)

    def _take_id(self) -> int:
        return self._free_ids.pop()

    def _check_cached_ids(self) -> list[int]:
        blocks = list(self._free_blocks)
        for node in self._tree.nodes():
            assert len(node.blocks) * self.page == len(node.tokens), "blocks and tokens differ"
            blocks += node.blocks.tolist()
        for lease in self._leases.values():
            blocks += lease.blocks[lease.shared // self.page :]
        assert sorted(blocks) == list(range(self._total // self.page)), "blocks leaked or doubled"
        return []
