"""``trunkline status``: how a running server's models and backends do, as a live table."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from trunkline.cli.errors import CommandFailed, UsageError
from trunkline.cli.options import Parser, new_parser

Json = dict[str, Any]

_DEFAULT_URL = "http://127.0.0.1:8000"
_TIMEOUT = 5.0
_EPILOG = """\
examples:
  trunkline status                            the server at http://127.0.0.1:8000
  trunkline status http://10.0.0.5:8000       another one
  trunkline status unix:/run/trunkline.sock
  trunkline status --once --json | jq .routes

On a terminal the table is drawn again every --interval seconds until Ctrl-C; elsewhere it is
printed once. The exit status is 0 when a model can be served, 1 when none can.

A server that asks for keys shows its backends only to those who have one: --api-key, or
TRUNKLINE_API_KEY.
"""
_COLUMNS = (
    *("ROUTE", "TARGET", "STATE", "BUSY", "WAIT", "DRAIN", "TTFT", "TOK/S", "DONE", "FAILED"),
    "WHY",
)


def new_status_parser() -> Parser:
    """The parser of ``trunkline status``."""
    parser = new_parser(
        "status",
        "Show how a running server's models and backends do.",
        usage="trunkline status [URL] [OPTIONS]",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "url", nargs="?", default=_DEFAULT_URL, metavar="URL", help=f"default: {_DEFAULT_URL}"
    )
    parser.add_argument("--once", action="store_true", help="Print the table once and end.")
    parser.add_argument("--json", action="store_true", help="Print what /health says, once.")
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="SECONDS", help="Between two tables."
    )
    parser.add_argument("--api-key", metavar="KEY", help="A key of the server.")
    return parser


def run(argv: Sequence[str]) -> int:
    """Show the table until Ctrl-C, or once. Returns the exit status."""
    arguments = new_status_parser().parse_args(argv)
    if arguments.interval <= 0:
        raise UsageError("--interval: expected more than 0 seconds")
    key = arguments.api_key or os.environ.get("TRUNKLINE_API_KEY", "").split(",")[0]
    live = sys.stdout.isatty() and not (arguments.once or arguments.json)
    while True:
        page, good = fetch(arguments.url, key)
        if arguments.json:
            print(json.dumps(page, indent=2))
        else:
            text = "\n".join(table(page, shutil.get_terminal_size().columns if live else 0))
            # Home, what is below erased: no flicker.
            print(f"\x1b[H\x1b[J{text}" if live else text, flush=True)
        if not live:
            return 0 if good else 1
        time.sleep(arguments.interval)


def fetch(url: str, key: str) -> tuple[Json, bool]:
    """The server's health page, and whether it can serve. Raises `CommandFailed`."""
    connection = _connect(url)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        connection.request("GET", "/health", headers=headers)
        response = connection.getresponse()
        page = json.loads(response.read())
    except (OSError, http.client.HTTPException) as error:
        raise CommandFailed(
            f"no server answers at {url}: {error}; start one with `trunkline serve`, "
            "or name its URL"
        ) from error
    except ValueError as error:
        raise CommandFailed(f"what answers at {url} is not Trunkline") from error
    finally:
        connection.close()
    if not isinstance(page, dict) or "models" not in page:
        raise CommandFailed(f"what answers at {url} is not Trunkline")
    return page, response.status == http.client.OK


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


def _connect(url: str) -> http.client.HTTPConnection:
    if url.startswith("unix:"):
        return _UnixConnection(url.removeprefix("unix:"))
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"URL: expected http://HOST:PORT or unix:PATH, not {url!r}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, parts.port, timeout=_TIMEOUT)


def table(page: Json, width: int) -> list[str]:
    """Lines of the table, cut to `width` columns; 0 = as wide as they are."""
    rows = [row for route in page.get("routes", ()) for row in _route_rows(route)]
    routed = {route["name"] for route in page.get("routes", ())}
    backends = page.get("backends", {})
    whose = "-" if backends else "built in"
    rows += [_row(name, whose, one) for name, one in page["models"].items() if name not in routed]
    named = {target["backend"] for route in page.get("routes", ()) for target in route["targets"]}
    rows += [_row("-", name, one) for name, one in backends.items() if name not in named]
    widths = [max(len(row[i]) for row in (_COLUMNS, *rows)) for i in range(len(_COLUMNS))]
    head = f"{page.get('status', '?')}{', draining' if page.get('draining') else ''}"
    lines = [head]
    for row in (_COLUMNS, *rows):
        lines += ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))]
    return [line.rstrip()[: width or None] for line in lines]


def _route_rows(route: Json) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for target in route["targets"]:
        state = target["state"] if target["breaker"] == "closed" else f"breaker {target['breaker']}"
        rows.append(
            (
                route["name"] if not rows else "",
                target["name"] + (f" [{target['arm']}]" if target["arm"] else ""),
                state,
                str(max(target["in_flight"], target["running"])),
                str(target["waiting"]),
                _seconds(target["drain"]),
                _seconds(target["ttft"]),
                f"{1 / target['per_token']:.0f}" if target["per_token"] else "-",
                str(target["successes"]),
                str(sum(target["failures"].values())),
                target["detail"],
            )
        )
    return rows


def _row(route: str, target: str, one: Json) -> tuple[str, ...]:
    """Of a model or backend that no route names."""
    busy, waiting = str(one["running"]), str(one["waiting"])
    unknown = ("-",) * 5
    return (route, target, one["state"], busy, waiting, *unknown, one["detail"])


def _seconds(value: float) -> str:
    if not value:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
