"""From a complete request to what answers it; and what is counted and logged of each."""

from __future__ import annotations

import logging
import time

from trunkline.core.errors import InternalError, MethodNotAllowed, TrunklineError
from trunkline.gateway.gateway import Gateway
from trunkline.server.endpoints import build
from trunkline.server.generate import Generator, retry_line
from trunkline.server.http.asgi import Bridge
from trunkline.server.http.exchange import JSON, Exchange
from trunkline.server.metrics import ServerMetrics
from trunkline.wire.codec import Codec
from trunkline.wire.openai.errors import render_error
from trunkline.wire.table import KEYED, ROUTES

access = logging.getLogger("trunkline.access")


class Dispatch:
    """Implements `http.connection.Application`."""

    def __init__(self, gateway: Gateway, metrics: ServerMetrics) -> None:
        self._gateway = gateway
        self._metrics = metrics
        self.generator = Generator(gateway, metrics)
        self.bridge = Bridge(build(gateway, metrics), self._fault)
        self._hot: dict[tuple[str, str], Codec] = {}
        # Methods that a hot path has.
        self._allowed: dict[str, str] = {}
        # Path -> name in logs and metrics.
        self._names: dict[str, str] = {}
        for row in ROUTES:
            self._names[row.path] = row.name
            if row.codec is not None:
                self._hot[row.method, row.path] = row.codec
                self._allowed[row.path] = row.method

    def handle(self, exchange: Exchange) -> None:
        """Answer in place what is hot; hand the rest to the endpoints."""
        request = exchange.request
        path = request.path
        exchange.route = self._names.get(path) or self._route(path)
        codec = self._hot.get((request.method, path))
        if codec is not None:
            self.generator.handle(exchange, codec)
            return
        if path.startswith(KEYED):
            try:
                self._gateway.keys.tenant(
                    request.header(b"authorization"), request.header(b"x-api-key")
                )
            except TrunklineError as error:
                self.refuse(exchange, error.status, error)
                return
        allowed = self._allowed.get(path)
        if allowed is not None:
            wrong = MethodNotAllowed(f"Not allowed to {request.method} on {path}.")
            allow = b"allow: %b\r\n" % allowed.encode()
            exchange.respond(wrong.status, render_error(wrong), JSON, allow)
            return
        self.bridge.handle(exchange)

    def refuse(self, exchange: Exchange, status: int, error: TrunklineError) -> None:
        """Answer with an error."""
        exchange.route = exchange.route or self._names.get(exchange.request.path, "other")
        exchange.respond(status, render_error(error), JSON, retry_line(error))

    def finished(self, exchange: Exchange) -> None:
        """Count it, and write its line into the log."""
        self._metrics.request(exchange.route or "other", exchange.status, exchange.model)
        if not access.isEnabledFor(logging.INFO):
            return
        request = exchange.request
        # Without the query, where somebody may have put a key.
        path = request.target.partition(b"?")[0].decode("ascii", "backslashreplace")
        tokens = "" if exchange.tokens is None else " tokens={}+{}".format(*exchange.tokens)
        model = f" model={exchange.model}" if exchange.model else ""
        gone = f" ({exchange.gone_because})" if exchange.gone_because else ""
        took = (time.monotonic() - exchange.began) * 1e3
        access.info(
            '%s "%s %s" %d%s%s %.1fms%s',
            exchange.client,
            request.method,
            path,
            exchange.status,
            model,
            tokens,
            took,
            gone,
        )

    def _route(self, path: str) -> str:
        return "model" if path.startswith("/v1/models/") else "other"

    def _fault(self, exchange: Exchange) -> None:
        self.refuse(exchange, 500, InternalError("A fault of this server; its log says more."))
