from __future__ import annotations

from trunkline.gateway.breaker import CircuitBreaker
from trunkline.gateway.config import Breaker

NOW = 500.0


def failing(breaker: CircuitBreaker, times: int, now: float = NOW) -> None:
    for _ in range(times):
        breaker.tries.add(now)
        breaker.failure(now, probe=breaker.begin())


def test_failures_in_a_row_open_it() -> None:
    breaker = CircuitBreaker(Breaker(failures=3))
    failing(breaker, 2)
    assert breaker.allows(NOW)
    breaker.row = 0
    failing(breaker, 2)
    assert breaker.allows(NOW)
    failing(breaker, 1)
    assert not breaker.allows(NOW)
    assert breaker.state(NOW) == "open"


def test_a_share_of_failures_opens_it() -> None:
    breaker = CircuitBreaker(Breaker(failures=100, ratio=0.5, least=10))
    for _ in range(9):
        breaker.tries.add(NOW)
        breaker.row = 0
    failing(breaker, 8)
    assert breaker.closed
    failing(breaker, 1)
    assert not breaker.closed


def test_old_failures_do_not_count() -> None:
    breaker = CircuitBreaker(Breaker(failures=100, ratio=0.5, least=4, window=60))
    failing(breaker, 3)
    for _ in range(6):
        breaker.tries.add(NOW + 70)
    failing(breaker, 1, NOW + 70)
    assert breaker.closed


def test_one_may_try_after_the_cooldown() -> None:
    breaker = CircuitBreaker(Breaker(failures=1, cooldown=5))
    failing(breaker, 1)
    assert breaker.wait(NOW + 2) == 3
    assert not breaker.allows(NOW + 4.9)
    assert breaker.state(NOW + 5) == "half_open"
    assert breaker.allows(NOW + 5)
    assert breaker.begin()
    assert not breaker.allows(NOW + 5)
    breaker.answered()
    assert breaker.state(NOW + 5) == "closed"


def test_a_probe_that_fails_opens_it_again() -> None:
    breaker = CircuitBreaker(Breaker(failures=1, cooldown=5))
    failing(breaker, 1)
    breaker.begin()
    breaker.failure(NOW + 6, probe=True)
    assert not breaker.allows(NOW + 10.9)
    assert breaker.allows(NOW + 11)


def test_a_request_from_before_decides_nothing_while_open() -> None:
    breaker = CircuitBreaker(Breaker(failures=1, cooldown=5))
    failing(breaker, 1)
    breaker.failure(NOW + 4, probe=False)
    assert breaker.allows(NOW + 5)
