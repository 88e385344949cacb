"""From a complete request to what answers it; and what is counted and logged of each."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence

from starlette.routing import compile_path

from trunkline.core.errors import InternalError, MethodNotAllowed, TrunklineError
from trunkline.gateway.gateway import Gateway
from trunkline.server.endpoints import build
from trunkline.server.generate import Generator
from trunkline.server.http.asgi import Bridge
from trunkline.server.http.exchange import JSON, Exchange, HttpRequest
from trunkline.server.metrics import ServerMetrics
from trunkline.server.passage import Passage, Remembered
from trunkline.server.replies import id_line, new_request_id, retry_line
from trunkline.server.responses import StoredResponses
from trunkline.wire.dialects import Errors, errors_for
from trunkline.wire.raw import naming
from trunkline.wire.shared import choose
from trunkline.wire.table import ALIASES, ROUTES, Route

access = logging.getLogger("trunkline.access")

_LEFT = 499
# Variables of a path that has none.
_NONE: Mapping[str, str] = {}


class Paths:
    """Finds the row of a request: an exact path first, then those with variables."""

    def __init__(self, rows: Sequence[Route]) -> None:
        # (method, path) -> row, of paths without variables.
        self.exact: dict[tuple[str, str], Route] = {}
        self._patterns: list[tuple[re.Pattern[str], Route]] = []
        for row in rows:
            if "{" in row.path:
                self._patterns.append((compile_path(row.path)[0], row))
            else:
                self.exact[row.method, row.path] = row

    def find(self, method: str, path: str) -> tuple[Route | None, Mapping[str, str]]:
        """The row and the variables of its path; HEAD is served by GET."""
        row = self.exact.get((method, path))
        if row is not None:
            return row, _NONE
        if method == "HEAD":
            return self.find("GET", path)
        for pattern, row in self._patterns:
            if row.method == method and (match := pattern.match(path)):
                return row, match.groupdict()
        return None, _NONE

    def allowed(self, path: str) -> tuple[str, ...]:
        """Methods that a path has; none for one that does not exist."""
        exact = {row.method for (_, known), row in self.exact.items() if known == path}
        matching = {row.method for pattern, row in self._patterns if pattern.match(path)}
        methods = exact | matching
        return tuple(sorted(methods | {"HEAD"} if "GET" in methods else methods))


class Dispatch:
    """Implements `http.connection.Application`."""

    def __init__(self, gateway: Gateway, metrics: ServerMetrics, stored: StoredResponses) -> None:
        self._gateway = gateway
        self._metrics = metrics
        self.generator = Generator(gateway, metrics, stored)
        self.bridge = Bridge(build(gateway, metrics, stored), self._fault)
        self._paths = Paths((*ROUTES, *ALIASES))
        self._remembered = Remembered(gateway, self.generator.ids)
        self.again = self._remembered.again

    def handle(self, exchange: Exchange) -> None:
        """Answer in place what is hot; hand the rest to the endpoints."""
        request = exchange.request
        remembered = self._remembered
        chosen, remembered.chosen = remembered.chosen, None
        path = request.path
        variables = _NONE
        row = self._paths.exact.get((request.method, path))
        if row is None:
            row, variables = self._paths.find(request.method, path)
        exchange.route = row.name if row is not None else "other"
        codec = row.codec if row is not None else None
        if row is not None and row.shared is not None:
            # What a head says does not settle it.
            request.memory = None
            codec = choose(row.shared, request.body)
        if codec is not None:
            if row is not None and row.names_model:
                request.body = naming(request.body, variables["model"])
            self.generator.handle(exchange, codec, variables, chosen)
            return
        if row is None or row.keyed:
            try:
                self._gateway.keys.holder(request.fields)
            except TrunklineError as error:
                self._tell(exchange, error)
                return
        allowed = self._paths.allowed(path) if row is None else ()
        if allowed and request.method != "HEAD":
            wrong = MethodNotAllowed(f"Not allowed to {request.method} on {path}.")
            self._tell(exchange, wrong, b"allow: %b\r\n" % ", ".join(allowed).encode())
            return
        self.bridge.handle(exchange)

    def refuse(self, exchange: Exchange, status: int, error: TrunklineError) -> None:
        """Answer with an error of HTTP itself, whose status is not a dialect's to choose."""
        exchange.route = exchange.route or "other"
        error.request_id = new_request_id()
        body = self._errors(exchange).render(error)
        exchange.respond(status, body, JSON, id_line(error.request_id) + retry_line(error))

    def _tell(self, exchange: Exchange, error: TrunklineError, headers: bytes = b"") -> None:
        errors = self._errors(exchange)
        error.request_id = new_request_id()
        lines = id_line(error.request_id) + headers + retry_line(error)
        exchange.respond(errors.status(error), errors.render(error), JSON, lines)

    def _errors(self, exchange: Exchange) -> Errors:
        request = exchange.request
        anthropic = b"anthropic-version" in request.fields
        return errors_for(request.path, anthropic_client=anthropic)

    def finished(self, exchange: Exchange) -> None:
        """Count it, and write its line into the log."""
        # Clients that leave before there is one have their own.
        status = exchange.status or _LEFT
        self._metrics.answers(exchange.route or "other", status, exchange.model).inc()
        if access.isEnabledFor(logging.INFO):
            model, tokens = exchange.model, exchange.tokens
            gone = exchange.gone_because
            _log(exchange.client, exchange.request, exchange.began, status, model, tokens, gone)

    def passed(self, passage: Passage) -> None:
        """As `finished`."""
        way = passage.way
        if way.answers is None:
            track = passage.track
            way.answers = self._metrics.answers(track.route_name, 200, track.label)
        way.answers.inc()
        if access.isEnabledFor(logging.INFO):
            connection, known, model = passage.connection, passage.known, passage.track.label
            assert connection is not None
            assert known is not None
            _log(connection.client, known, passage.asked, 200, model, passage.tokens)

    def _fault(self, exchange: Exchange) -> None:
        self.refuse(exchange, 500, InternalError("A fault of this server; its log says more."))


def _log(
    client: str,
    request: HttpRequest,
    began: float,
    status: int,
    model: str,
    tokens: tuple[int, int] | None,
    gone: str = "",
) -> None:
    # Without the query, where somebody may have put a key.
    path = request.target.partition(b"?")[0].decode("ascii", "backslashreplace")
    access.info(
        '%s "%s %s" %d%s%s %.1fms%s',
        client,
        request.method,
        path,
        status,
        f" model={model}" if model else "",
        "" if tokens is None else " tokens={}+{}".format(*tokens),
        (time.monotonic() - began) * 1e3,
        f" ({gone})" if gone else "",
    )
