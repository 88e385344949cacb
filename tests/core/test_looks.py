"""Which looks at deadlines count."""

from __future__ import annotations

from trunkline.core.looks import Looks


def test_a_late_look_is_left_to_the_next_one_but_never_two() -> None:
    looks = Looks()
    assert looks.counts(10.0, 10.0)
    assert looks.counts(20.05, 20.0)
    assert not looks.counts(33.0, 30.0)
    assert looks.counts(43.0, 40.0)
    assert not looks.counts(53.0, 50.0)
    assert looks.counts(60.0, 60.0)
