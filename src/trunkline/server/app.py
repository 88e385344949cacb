"""The composition root: configuration and models in, a running server out.

`SIGTERM` or `SIGINT` drains: no new connection, `/ready` turns bad, answers under way may end
within `drain_timeout`; what is left is ended with an error. A second signal does so at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from trunkline.core.errors import Unavailable
from trunkline.gateway.gateway import Gateway, ServedModel
from trunkline.gateway.keys import Keys
from trunkline.server.config import ServerConfig
from trunkline.server.dispatch import Dispatch
from trunkline.server.http.address import parse_address
from trunkline.server.http.listener import Listener
from trunkline.server.metrics import ServerMetrics
from trunkline.server.responses import StoredResponses
from trunkline.state.database import Database
from trunkline.state.makers import Makers
from trunkline.state.responses import ResponseStore

log = logging.getLogger("trunkline.server")


class Server:
    """Listeners, gateway and metrics of one process."""

    def __init__(self, config: ServerConfig, gateway: Gateway, state: Path | None = None) -> None:
        """`state`: the folder of what outlives the process; None keeps nothing."""
        self._config = config
        self._addresses = [parse_address(text) for text in config.addresses()]
        self.gateway = gateway
        self.metrics = ServerMetrics(self.gateway, self._open_connections)
        self._database = Database(state / "responses.db" if state is not None else None)
        stored = StoredResponses(ResponseStore(self._database), Makers(self._database), gateway)
        self._dispatch = Dispatch(self.gateway, self.metrics, stored)
        self._listener = Listener(config, self._dispatch)
        self.pool = self._listener.pool

    async def start(self) -> tuple[str, ...]:
        """Listen everywhere; returns the URLs with the real ports. Raises OSError."""
        urls: list[str] = []
        try:
            for address in self._addresses:
                urls += await self._listener.open(address)
        except OSError:
            await self.stop()
            raise
        return tuple(urls)

    async def drain(self, hurry: asyncio.Event) -> None:
        """Let answers under way end, for `drain_timeout` or until `hurry` is set; cut the rest."""
        self.gateway.draining = True
        self.pool.draining = True
        self._listener.stop_accepting()
        idle = asyncio.create_task(self._listener.wait_idle(self._config.drain_timeout))
        hurried = asyncio.create_task(hurry.wait())
        try:
            await asyncio.wait((idle, hurried), return_when=asyncio.FIRST_COMPLETED)
        finally:
            idle.cancel()
            hurried.cancel()
            await asyncio.gather(idle, hurried, return_exceptions=True)
        if self.pool.active:
            log.warning("cutting %d answers short", self.pool.active)
            self._dispatch.generator.cut(Unavailable("the server was shut down"))

    async def stop(self) -> None:
        """Close everything."""
        self.gateway.draining = True
        await self._dispatch.bridge.close()
        await self._listener.close()
        await self._database.close()

    def _open_connections(self) -> int:
        return len(self.pool.connections)


async def serve(
    config: ServerConfig,
    models: Sequence[ServedModel],
    *,
    on_listening: Callable[[tuple[str, ...]], None],
    state: Path | None = None,
) -> None:
    """Serve `models` until a signal, or until cancelled. `on_listening` gets the URLs."""
    server = Server(config, Gateway(models, Keys(config.api_key)), state)
    on_listening(await server.start())
    try:
        await run_until_signal(server)
    finally:
        await server.stop()


def _calm_collector() -> None:
    """Let the garbage collector leave alone what lives as long as the process, and look less often.

    A request makes some hundred objects and no cycles; looking for these took 4 % of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def run_until_signal(server: Server) -> None:
    """Wait for SIGTERM or SIGINT, and drain; a second one ends at once."""
    _calm_collector()
    with _signals() as (stop, hurry):
        await stop.wait()
        log.info("draining; a second signal ends at once")
        await server.drain(hurry)


@contextlib.contextmanager
def _signals() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Events that the first and the second signal set."""
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()

    def note() -> None:
        (second if first.is_set() else first).set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, note)
    try:
        yield first, second
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
