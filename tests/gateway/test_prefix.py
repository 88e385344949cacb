from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.gateway.prefix import PrefixIndex, chain, longest

TEXT = random.Random(1).randbytes(100_000)


def test_equal_beginnings_share_keys_and_no_more() -> None:
    one = chain(TEXT[:5000])
    other = chain(TEXT[:3000] + bytes((TEXT[3000] ^ 1,)) + TEXT[3001:5000])
    same = [mine == theirs for mine, theirs in zip(one, other, strict=True)]
    assert same == [True] * same.count(True) + [False] * same.count(False)
    # 16 blocks of 128 bytes, and one of 512: 2560 bytes.
    assert same.count(True) == 17


@settings(max_examples=20)
@given(st.integers(0, 100_000))
def test_a_longer_prompt_begins_with_the_keys_of_a_shorter_one(size: int) -> None:
    whole = chain(TEXT)
    assert chain(TEXT[:size]) == whole[: len(chain(TEXT[:size]))]


def test_the_longest_prefix_of_each_target() -> None:
    index = PrefixIndex()
    index.add(chain(TEXT[:1024]), 0)
    index.add(chain(TEXT[:4096]), 5)
    index.add(chain(b"z" + TEXT[:4096]), 7)
    found = index.matches(chain(TEXT[:8192]))
    assert longest(found, 0) == 8
    assert longest(found, 5) == len(chain(TEXT[:4096]))
    assert longest(found, 7) == 0
    assert index.matches(chain(TEXT[1:8192])) == []


def test_memory_is_bounded_and_the_least_used_go_first() -> None:
    index = PrefixIndex(most=100)
    kept = chain(TEXT[:2048])
    for start in range(50):
        index.add(kept, 0)
        index.add(chain(TEXT[start * 1500 + 7 :][:2000]), 1)
        assert len(index) <= 100
    assert longest(index.matches(kept), 0) == len(kept)


def test_a_chain_loses_its_end_first() -> None:
    index = PrefixIndex(most=10)
    keys = chain(TEXT[:2048])
    index.add(keys, 0)
    assert longest(index.matches(keys), 0) == 10
