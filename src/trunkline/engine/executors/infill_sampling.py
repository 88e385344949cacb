"""llama.cpp's sampler for text that fills a gap: ends early, and says only what is likely.

Source: `llama_sampler_infill_apply` in src/llama-sampler.cpp of llama.cpp (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

# Text less probable than this, with all that it begins, is not said.
_LEAST = 0.2
# Candidates where top_k does not say: each is compared with each.
CANDIDATES = 40


def keep(
    ids: Sequence[int],
    p: npt.NDArray[np.float64],
    eog: frozenset[int],
    piece: Callable[[int], bytes] | None,
) -> npt.NDArray[np.bool_]:
    """Which candidates may be drawn; none: the text ends.

    `p`: their probabilities, falling, of sum 1. `piece`: the text of a token, b"" where it has
    none; without it no token is the beginning of another.
    """
    ends = np.array([token in eog for token in ids], dtype=np.bool_)
    mass = float(p[ends].sum())
    if 3 * mass * len(ids) > float(p[~ends].sum()):
        return ends
    p = p.copy()
    if piece is not None:
        _merge(p, [piece(token) for token in ids])
    kept = (p >= _LEAST) | ends
    text = int((kept & ~ends).sum())
    if text == 0:
        return np.zeros(len(ids), dtype=np.bool_)
    p /= p[kept].sum()
    return (kept & (p >= 1.0 / (text + 1))) | (ends & (p > 0.0))


def _merge(p: npt.NDArray[np.float64], pieces: Sequence[bytes]) -> None:
    """Where one begins another, the more probable of them has the probability of both."""
    gone = [False] * len(pieces)
    for one, beginning in enumerate(pieces):
        for other, text in enumerate(pieces):
            if gone[one]:
                break
            if one == other or gone[other] or not beginning or not text.startswith(beginning):
                continue
            into, out = (other, one) if p[other] > p[one] else (one, other)
            p[into] += p[out]
            p[out] = 0.0
            gone[out] = True
