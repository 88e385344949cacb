"""What all pools of a process share."""

from __future__ import annotations

import asyncio

from trunkline.backends.http.dial import Dialer
from trunkline.backends.http.origin import Origin
from trunkline.backends.http.pool import Pool, PoolLimits
from trunkline.backends.http.ticker import Ticker


class HttpClient:
    """Makes pools, and closes them. Made on the loop that it runs on."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ticker = Ticker(loop)
        self._dialer = Dialer(loop)
        self._pools: set[Pool] = set()

    def pool(self, origin: Origin, name: str, limits: PoolLimits) -> Pool:
        """A pool of connections to `origin` for the backend called `name`."""
        pool = Pool(origin, name, limits, self._dialer, self.ticker)
        self._pools.add(pool)
        return pool

    async def drop(self, pool: Pool) -> None:
        """Close one pool."""
        self._pools.discard(pool)
        await pool.close()

    async def close(self) -> None:
        """Close all pools."""
        for pool in tuple(self._pools):
            await self.drop(pool)
        self.ticker.close()
