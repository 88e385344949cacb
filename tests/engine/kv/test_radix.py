"""The tree alone, against a list of prefixes."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.engine.kv.radix import Match, Node, RadixTree, common_prefix
from trunkline.engine.seam import Int32Array

ROOT = b"root"


def array(*tokens: int) -> Int32Array:
    """Token ids."""
    return np.array(tokens, np.int32)


def put(tree: RadixTree, tokens: Int32Array, seq: int = 0) -> Node:
    """Insert `tokens`, as a row that leaves at once."""
    match = tree.match(ROOT, tokens, len(tokens))
    node = tree.cut(match.node, match.length)
    tree.pin(node, seq)
    if match.length < len(tokens):
        rest = tokens[match.length :]
        blocks = np.zeros(len(rest) // tree.page, np.int32)
        node = tree.append(node, seq, rest, blocks)
    tree.unpin(node, seq)
    return node


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_common_prefix(a: list[int], b: list[int]) -> None:
    expected = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        expected += 1
    assert common_prefix(array(*a), array(*b)) == expected


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=8),
    st.lists(st.integers(0, 2), max_size=14),
    st.sampled_from([1, 2, 4]),
)
def test_the_longest_prefix_is_found(stored: list[list[int]], wanted: list[int], page: int) -> None:
    tree = RadixTree(page)
    for tokens in stored:
        whole = len(tokens) // page * page
        if whole:
            put(tree, array(*tokens[:whole]))
        tree.check()
    found = tree.match(ROOT, array(*wanted), len(wanted)).length
    expected = max(
        (
            common_prefix(array(*tokens[: len(tokens) // page * page]), array(*wanted))
            for tokens in stored
        ),
        default=0,
    )
    assert found == expected // page * page
    distinct = {
        tuple(tokens[:end])
        for tokens in stored
        for end in range(page, len(tokens) // page * page + 1, page)
    }
    assert tree.size == len(distinct) * page == tree.cached


def test_eviction_is_least_recently_used_leaf_first() -> None:
    tree = RadixTree(1)
    put(tree, array(1, 2, 3))
    put(tree, array(1, 2, 4))
    put(tree, array(5, 6))
    put(tree, array(1, 2, 3))
    order: list[list[int]] = []
    while (leaf := tree.oldest()) is not None:
        order.append(leaf.tokens.tolist())
        tree.remove(leaf)
        tree.check()
    assert order == [[4], [5, 6], [3], [1, 2]]
    assert tree.match(ROOT, array(1, 2), 2).length == 0


def test_pinned_paths_are_not_offered() -> None:
    tree = RadixTree(1)
    node = put(tree, array(1, 2, 3))
    tree.pin(node, 7)
    assert tree.cached == 0
    assert tree.oldest() is None
    tree.unpin(node, 7)
    assert tree.oldest() is node


def test_a_match_says_what_it_would_pin() -> None:
    tree = RadixTree(1)
    upper = put(tree, array(1, 2, 3))
    tree.pin(upper, 7)
    put(tree, array(1, 2, 3, 4, 5, 6))
    assert tree.match(ROOT, array(1, 2, 3, 4, 5, 9), 6) == Match(
        node=next(iter(upper.children.values())), length=5, cached=2
    )


def test_a_cached_leaf_can_be_shortened() -> None:
    tree = RadixTree(2)
    leaf = put(tree, array(1, 2, 3, 4, 5, 6))
    tree.shorten(leaf, 4)
    tree.check()
    assert (leaf.end, tree.size, tree.cached) == (2, 2, 2)
    assert tree.match(ROOT, array(1, 2, 3, 4), 4).length == 2


def test_a_row_that_grows_alone_stays_one_node() -> None:
    tree = RadixTree(1)
    node = tree.match(ROOT, array(1), 1).node
    tree.pin(node, 0)
    for token in range(10):
        node = tree.append(node, 0, array(token), np.empty(0, np.int32))
        tree.check()
    assert len(list(tree.nodes())) == 1


def test_the_heap_of_leaves_does_not_grow_with_use() -> None:
    tree = RadixTree(1)
    for _ in range(5000):
        put(tree, array(1, 2, 3))
    assert len(tree._idle) < 600


@pytest.mark.parametrize("page", [1, 16])
def test_a_prompt_of_100k_tokens_matches_in_milliseconds(page: int) -> None:
    tree = RadixTree(page)
    tokens = np.random.default_rng(0).integers(0, 30000, 100_000, np.int32)
    put(tree, tokens)
    best = 1.0
    for _ in range(5):
        begun = time.perf_counter()
        assert tree.match(ROOT, tokens, len(tokens) - 1).length == 99_999 // page * page
        best = min(best, time.perf_counter() - begun)
    assert best < 0.01
