from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.gateway.affinity import rendezvous

HOLDERS = [f"user-{number}" for number in range(3000)]


def places(*names: str, weight: float = 1.0) -> list[tuple[str, str, float]]:
    return [(name, name, weight) for name in names]


@settings(max_examples=40)
@given(st.text(), st.lists(st.text(), min_size=1, max_size=8, unique=True))
def test_the_same_holder_stays_whatever_the_order(holder: str, names: list[str]) -> None:
    assert rendezvous(holder, places(*names)) == rendezvous(holder, places(*reversed(names)))


def test_only_holders_of_the_one_that_goes_move() -> None:
    before = {holder: rendezvous(holder, places("a", "b", "c", "d")) for holder in HOLDERS}
    after = {holder: rendezvous(holder, places("a", "b", "d")) for holder in HOLDERS}
    for holder, place in before.items():
        assert after[holder] == place or place == "c"


def test_each_has_its_share() -> None:
    given_to = [rendezvous(holder, [("a", "a", 1.0), ("b", "b", 3.0)]) for holder in HOLDERS]
    assert given_to.count("b") / len(given_to) == pytest.approx(0.75, abs=0.03)


def test_it_is_the_same_in_every_process() -> None:
    names = [rendezvous(holder, places("a", "b", "c")) for holder in HOLDERS[:12]]
    assert "".join(names) == "bbbcbabbbbca"


def test_without_weights_everybody_gets_some() -> None:
    given_to = {rendezvous(holder, places("a", "b", weight=0.0)) for holder in HOLDERS[:100]}
    assert given_to == {"a", "b"}
