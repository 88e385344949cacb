"""One task per server: checks its health, scrapes its load, lists its models, probes it once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

from trunkline.backends.health import Judge
from trunkline.backends.http.fetch import Response
from trunkline.backends.kind import ModelList
from trunkline.backends.listing import read_models
from trunkline.backends.probe import Prober, trials
from trunkline.backends.remote import RemoteBackend
from trunkline.backends.scrape import Rates, read
from trunkline.backends.site import Site
from trunkline.core.errors import TrunklineError

log = logging.getLogger("trunkline.backends")

# Seconds between two looks at the list of models, ours and a hosted API's.
_RELIST = 60.0
_RELIST_HOSTED = 900.0
# Seconds that a list may take.
_LIST_TIMEOUT = 15.0


class Watcher:
    """Keeps one `RemoteBackend` up to date. `start`, and `close` when done.

    `site` has connections of its own, so that a check never waits behind requests; `metrics` is
    where the load is told, None = nowhere.
    """

    def __init__(self, backend: RemoteBackend, site: Site, metrics: Site | None) -> None:
        self._backend = backend
        self._site = site
        self._metrics = metrics
        self._loop = site.pool.loop
        check = backend.kind.health
        checked = check is not None and not backend.kind.hosted
        self._judge = Judge(check, backend.health()) if check and checked else None
        self._rates = Rates()
        self._task: asyncio.Task[None] | None = None
        self._relist_at = 0.0
        # It is ours, or a neighbour's.
        self._near = site.origin.near
        # What was probed: the server's version and model.
        self._probed = ""
        # The last thing that went wrong, so that it is logged once.
        self._problem = ""

    def start(self) -> None:
        """Begin; does nothing when there is nothing to watch."""
        if self._task is None and self._backend.health().state != "failed":
            self._task = self._loop.create_task(self._run())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def look(self) -> None:
        """One round. Raises nothing that a server can cause."""
        await self._check()
        if self._backend.health().state != "ready":
            self._relist_at = 0.0
            return
        await self._scrape()
        if self._loop.time() >= self._relist_at:
            await self._list()
            await self._probe()

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                # A fault of ours in one round must not end the checks.
                log.exception("%s: a round of checks failed", self._backend.title)
            interval = self._backend.config.health.interval
            if self._judge is None:
                interval = max(interval, _RELIST_HOSTED)
            # Servers of one kind are not asked all at the same moment.
            await asyncio.sleep(interval * random.uniform(0.9, 1.1))

    async def _check(self) -> None:
        judge, backend = self._judge, self._backend
        if judge is None or backend.kind.health is None:
            return
        before = judge.health.state
        path, timeout = backend.kind.health.path, backend.config.health.timeout
        try:
            response = await self._site.fetch("GET", path, timeout=timeout)
            if judge.hides(response):
                source = backend.kind.models
                listed = response
                if source is not None and source.path != path:
                    listed = await self._ask_list(source, timeout)
                health = judge.listed(response, source.path if source else path, listed)
            else:
                health = judge.answered(response)
        except TrunklineError as error:
            health = judge.missed(error, busy=backend.in_flight > 0, heard=backend.heard)
        # Anew from here on: what arrives between two checks counts for the next one.
        backend.heard = False
        backend.set_health(health)
        if health.state != before:
            log.info("%s is %s%s", backend.title, health.state, _because(health.detail))

    async def _scrape(self) -> None:
        names = self._backend.kind.metrics
        if names is None or self._metrics is None:
            return
        try:
            timeout = self._backend.config.health.timeout
            response = await self._metrics.fetch("GET", names.path, timeout=timeout)
            if not response.ok:
                # Off by default in some engines (SGLang, llama.cpp, TensorRT-LLM).
                self._complain(f"{names.path} answers {response.head.status}: no load is known")
                return
            reading = read(names, response.body)
        except TrunklineError as error:
            self._complain(f"no load is known: {error.message}")
            return
        if reading is not None:
            self._backend.set_stats(self._rates.take(reading, self._loop.time()))

    async def _list(self) -> None:
        backend = self._backend
        self._relist_at = self._loop.time() + (_RELIST_HOSTED if backend.kind.hosted else _RELIST)
        source = backend.kind.models
        if source is None or (backend.kind.hosted and backend.config.models):
            return
        try:
            response = await self._ask_list(source, _LIST_TIMEOUT)
            if response.ok:
                backend.set_models(read_models(source.shape, response.body, backend.kind.name))
            else:
                self._complain(f"{source.path} answers {response.head.status}: no list of models")
        except TrunklineError as error:
            self._complain(f"no list of models: {error.message}")

    async def _ask_list(self, source: ModelList, timeout: float) -> Response:
        body = b"{}" if source.method == "POST" else b""
        return await self._site.fetch(source.method, source.path, body, timeout=timeout)

    async def _probe(self) -> None:
        """Once for each version and model; who may bill is tried only when that is wanted."""
        backend = self._backend
        wanted = backend.config.probe
        if wanted is None:
            bills = backend.kind.hosted or (backend.kind.anybodys and not self._near)
            wanted = backend.kind.probe and not bills
        models = backend.models()
        if not wanted or not models:
            return
        key = f"{models[0].name} {await self._version()}"
        if key == self._probed:
            return
        model = models[0].name
        paths = trials(backend, model)
        if paths:
            backend.learn(found := await Prober(self._site, paths, model).run())
            log.info("%s was probed: %s", backend.title, "; ".join(found.notes))
        self._probed = key

    async def _version(self) -> str:
        path = self._backend.kind.version_path
        if not path:
            return ""
        try:
            response = await self._site.fetch("GET", path, timeout=_LIST_TIMEOUT)
        except TrunklineError:
            return ""
        return response.body[:2000].decode("utf-8", "replace") if response.ok else ""

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            log.info("%s: %s", self._backend.title, self._site.redact(problem))


def _because(detail: str) -> str:
    return f": {detail}" if detail else ""
