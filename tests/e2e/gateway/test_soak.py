"""A short run of the soak, so that the long one can be relied on."""

from __future__ import annotations

import argparse

from benchmarks.gateway.soak import soak


async def test_short_soak() -> None:
    await soak(argparse.Namespace(requests=1000, clients=4, streams=60, growth=8.0))
