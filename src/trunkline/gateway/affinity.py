"""Keeping a holder in one place: rendezvous hashing, the same in every process."""

from __future__ import annotations

import math
from collections.abc import Iterable
from hashlib import blake2b
from typing import TypeVar

Name = TypeVar("Name")

_TOP = float(1 << 64)


def rendezvous(holder: str, places: Iterable[tuple[Name, str, float]]) -> Name:
    """The place of `holder` among `places`: (place, its stable name, its weight).

    Weighted highest random weight (Thaler and Ravishankar 1998; Schindelhauer and Schomaker 2005
    for weights): each place is given its share, and when one comes or goes only its own holders
    move. Weights of 0 count as very small ones.
    """
    return max(places, key=lambda place: _score(holder, place[1], place[2]))[0]


def _score(holder: str, name: str, weight: float) -> float:
    digest = blake2b(f"{name}\0{holder}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    share = (int.from_bytes(digest) + 0.5) / _TOP
    # A share that rounds to 1 has the logarithm 0.
    return max(weight, 1e-9) / max(-math.log(share), 1e-300)
