"""One radix tree over token ids: which prefixes are in memory, who uses them, which go first.

Nodes hold runs of whole pages. A node is *pinned* while a live row ends in it or below it; the
others are *cached*. Only cached leaves are evicted, least recently used first, so that the parent
of a cached node may be pinned but never the other way round.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np

from trunkline.engine.seam import Int32Array

_NO_TOKENS: Int32Array = np.empty(0, np.int32)


class Node:
    """Tokens [end - len(tokens), end) of every sequence that passes through it."""

    __slots__ = (
        "blocks",
        "children",
        "donor",
        "end",
        "holders",
        "key",
        "parent",
        "pins",
        "stamp",
        "tokens",
    )

    def __init__(self, tokens: Int32Array, end: int, parent: Node | None, key: Hashable) -> None:
        self.tokens = tokens
        self.end = end
        # None: a root, or removed.
        self.parent = parent
        # Of the root in the tree.
        self.key = key
        # By the bytes of their first page.
        self.children: dict[bytes, Node] = {}
        # Live rows that end in this node or below.
        self.pins = 0
        # Sequences of the live rows that end exactly here.
        self.holders: dict[int, None] = {}
        # When it was last used, in ticks of the tree.
        self.stamp = 0
        # Cells: the sequence that holds this cached leaf; -1 = none needed.
        self.donor = -1
        # Blocks: where the tokens are.
        self.blocks: Int32Array = _NO_TOKENS

    @property
    def start(self) -> int:
        """Position of its first token."""
        return self.end - len(self.tokens)

    @property
    def idle_leaf(self) -> bool:
        """True: it may be evicted."""
        return self.parent is not None and not self.children and not self.pins

    def path(self) -> Iterator[Node]:
        """This node and those above it, without the root."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent


@dataclass(frozen=True, slots=True)
class Match:
    """The longest prefix that the tree holds."""

    node: Node
    # Tokens, a multiple of the page; may end inside `node`.
    length: int
    # Those of them that are cached: a hit takes them out of what can be evicted.
    cached: int


def common_prefix(a: Int32Array, b: Int32Array) -> int:
    """How many tokens `a` and `b` begin with in common."""
    size = min(len(a), len(b))
    if size == 0 or a[0] != b[0]:
        return 0
    different = a[:size] != b[:size]
    first = int(different.argmax())
    return first if different[first] else size


class RadixTree:
    """Nodes, pins and the order of eviction. Knows nothing of cells or blocks.

    Invariants: `size` is the tokens in all nodes, `cached` those in nodes without pins.
    """

    def __init__(self, page: int) -> None:
        self.page = page
        self.size = 0
        self.cached = 0
        self._roots: dict[Hashable, Node] = {}
        self._clock = 0
        # (stamp, tie breaker, leaf); entries whose leaf was used or removed since are skipped.
        self._idle: list[tuple[int, int, Node]] = []
        self._pushed = 0
        self._compact_at = 256

    def match(self, key: Hashable, tokens: Int32Array, limit: int) -> Match:
        """The longest prefix of `tokens[:limit]` under root `key`. Changes nothing."""
        root = self._roots.get(key)
        if root is None:
            # It joins the tree when it is pinned.
            return Match(Node(_NO_TOKENS, 0, None, key), 0, 0)
        node, length = self.descend(root, tokens, limit)
        cached = 0
        step = node
        while step.parent is not None and not step.pins:
            cached += min(length, step.end) - step.start
            step = step.parent
        return Match(node, length, cached)

    def descend(self, node: Node, tokens: Int32Array, limit: int) -> tuple[Node, int]:
        """From the end of `node` follow `tokens[node.end:limit]`: (last node touched, length)."""
        page = self.page
        length = node.end
        while limit - length >= page:
            child = node.children.get(tokens[length : length + page].tobytes())
            if child is None:
                break
            same = common_prefix(child.tokens, tokens[length:limit]) // page * page
            node = child
            length += same
            if same < len(child.tokens):
                break
        return node, length

    def cut(self, node: Node, length: int) -> Node:
        """The node that ends at `length`, on the path to `node`; splits `node` if need be."""
        if node.end == length:
            return node
        parent = node.parent
        assert parent is not None
        assert node.start < length < node.end
        at = length - node.start
        upper = Node(node.tokens[:at], length, parent, node.key)
        upper.pins, upper.stamp = node.pins, node.stamp
        upper.blocks = node.blocks[: at // self.page]
        parent.children[self._first(upper)] = upper
        node.tokens, node.blocks = node.tokens[at:], node.blocks[at // self.page :]
        node.parent = upper
        upper.children[self._first(node)] = node
        return upper

    def append(self, node: Node, seq: int, tokens: Int32Array, blocks: Int32Array) -> Node:
        """Put `tokens` below `node`, where `seq` ends; returns where `seq` ends now."""
        self.size += len(tokens)
        if len(node.holders) == 1 and not node.children and node.parent is not None:
            node.tokens = np.concatenate((node.tokens, tokens))
            node.blocks = np.concatenate((node.blocks, blocks))
            node.end += len(tokens)
            return node
        child = Node(tokens.copy(), node.end + len(tokens), node, node.key)
        child.blocks = blocks
        node.children[self._first(child)] = child
        # Unpinned until `move` arrives.
        self.cached += len(tokens)
        self.move(node, child, seq)
        return child

    def pin(self, node: Node, seq: int) -> None:
        """A live row with sequence `seq` ends at `node`."""
        node.holders[seq] = None
        if node.parent is None:
            self._roots[node.key] = node
        self._count(node, None, 1)

    def move(self, above: Node, below: Node, seq: int) -> None:
        """The end of `seq` moves from `above` to its descendant `below`."""
        del above.holders[seq]
        below.holders[seq] = None
        self._count(below, above, 1)

    def unpin(self, node: Node, seq: int) -> None:
        """The row of `seq` is gone; what it used counts as used now."""
        del node.holders[seq]
        self._clock += 1
        for step in node.path():
            step.stamp = self._clock
        self._count(node, None, -1)
        self._offer(node)
        self._tidy(node)

    def oldest(self) -> Node | None:
        """The cached leaf that was used longest ago."""
        while self._idle:
            stamp, _, node = self._idle[0]
            if node.idle_leaf and node.stamp == stamp:
                return node
            heapq.heappop(self._idle)
        return None

    def shorten(self, leaf: Node, tokens: int) -> None:
        """Take `tokens` (whole pages, fewer than it has) off the end of a cached leaf."""
        keep = len(leaf.tokens) - tokens
        leaf.tokens, leaf.blocks = leaf.tokens[:keep], leaf.blocks[: keep // self.page]
        leaf.end -= tokens
        self.size -= tokens
        self.cached -= tokens

    def remove(self, leaf: Node) -> Node:
        """Take out a cached leaf; returns its parent."""
        parent = leaf.parent
        assert parent is not None
        assert leaf.idle_leaf
        del parent.children[self._first(leaf)]
        leaf.parent = None
        self.size -= len(leaf.tokens)
        self.cached -= len(leaf.tokens)
        self._offer(parent)
        self._tidy(parent)
        return parent

    def nodes(self) -> Iterator[Node]:
        """Every node but the roots."""
        pending = [child for root in self._roots.values() for child in root.children.values()]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(node.children.values())

    def check(self) -> None:
        """Raise `AssertionError` unless counts, pins and links agree."""
        size = cached = 0
        idle = {id(node) for stamp, _, node in self._idle if stamp == node.stamp}
        for node in self.nodes():
            assert len(node.tokens) > 0, "an empty node"
            assert len(node.tokens) % self.page == 0, "a torn page"
            assert node.parent is not None, "a removed node"
            assert node.start == node.parent.end, "a gap in a path"
            assert node.parent.children[self._first(node)] is node, "child under a wrong key"
            below = sum(child.pins for child in node.children.values())
            assert node.pins == below + len(node.holders), "pins do not add up"
            assert not node.idle_leaf or id(node) in idle, "a cached leaf cannot be found"
            size += len(node.tokens)
            cached += 0 if node.pins else len(node.tokens)
        assert (size, cached) == (self.size, self.cached), "tree counts are off"
        for root in self._roots.values():
            assert root.children or root.holders, "an empty root lives on"

    def _first(self, node: Node) -> bytes:
        return node.tokens[: self.page].tobytes()

    def _count(self, node: Node, above: Node | None, by: int) -> None:
        step: Node | None = node
        while step is not None and step is not above:
            before = step.pins
            step.pins += by
            if before == 0:
                self.cached -= len(step.tokens)
            elif step.pins == 0:
                self.cached += len(step.tokens)
            step = step.parent

    def _offer(self, node: Node) -> None:
        if not node.idle_leaf:
            return
        self._pushed += 1
        heapq.heappush(self._idle, (node.stamp, self._pushed, node))
        if len(self._idle) > self._compact_at:
            self._idle = [e for e in self._idle if e[2].idle_leaf and e[2].stamp == e[0]]
            heapq.heapify(self._idle)
            self._compact_at = 2 * len(self._idle) + 256

    def _tidy(self, node: Node) -> None:
        if node.end == 0 and not node.children and not node.holders:
            self._roots.pop(node.key, None)
