"""``trunkline status`` against pages of real shape."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from trunkline.cli.errors import CommandFailed, UsageError
from trunkline.cli.status import fetch, run, table

_TARGET = {
    "name": "vllm/qwen",
    "backend": "vllm",
    "model": "qwen",
    "arm": "new",
    "state": "ready",
    "detail": "",
    "breaker": "closed",
    "in_flight": 3,
    "running": 7,
    "waiting": 2,
    "drain": 1.5,
    "ttft": 0.04,
    "per_token": 0.02,
    "successes": 10,
    "failures": {"upstream_failed": 1, "rate_limited": 2},
}
_PAGE: dict[str, Any] = {
    "status": "ok",
    "draining": False,
    "models": {
        "gpt": {"state": "ready", "detail": "", "running": 7, "waiting": 2},
        "caboose": {"state": "starting", "detail": "loading", "running": 0, "waiting": 0},
    },
    "routes": [
        {
            "name": "gpt",
            "targets": [
                _TARGET,
                {**_TARGET, "name": "far", "breaker": "open", "detail": "refuses connections"},
            ],
        }
    ],
}


@contextmanager
def page_at(body: bytes, status: int = 200) -> Iterator[tuple[str, list[str | None]]]:
    """URL of a server that answers everything with `body`, and the keys that it was sent."""
    keys: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers.get("authorization"))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", keys
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_line_for_each_target_and_each_model_without_a_route() -> None:
    head, columns, first, second, third = table(_PAGE, 0)
    assert head == "ok"
    assert columns.split()[:3] == ["ROUTE", "TARGET", "STATE"]
    assert first.split() == [
        *("gpt", "vllm/qwen", "[new]", "ready", "7", "2", "1.5", "s", "40", "ms", "50", "10", "3")
    ]
    assert "breaker open" in second
    assert second.endswith("refuses connections")
    assert third.split()[:4] == ["caboose", "built", "in", "starting"]
    assert third.endswith("loading")


def test_backends_that_no_route_names() -> None:
    one = {"state": "starting", "detail": "loading weights", "running": 1, "waiting": 0}
    backends = {"vllm": one, "launched": one}
    models = {"qwen": {**one, "state": "ready", "detail": ""}}
    *_, model, line = table({**_PAGE, "models": models, "backends": backends}, 0)
    assert model.split()[:3] == ["qwen", "-", "ready"]
    assert line.split()[:4] == ["-", "launched", "starting", "1"]
    assert line.endswith("loading weights")


def test_lines_are_cut_to_the_terminal() -> None:
    assert max(map(len, table(_PAGE, 40))) == 40


def test_once(capsys: pytest.CaptureFixture[str]) -> None:
    with page_at(json.dumps(_PAGE).encode()) as (url, keys):
        assert run([url, "--api-key", "sk-1"]) == 0
        assert "vllm/qwen" in capsys.readouterr().out
        assert keys == ["Bearer sk-1"]
        assert run([url, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == _PAGE


def test_a_server_that_cannot_serve_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with page_at(json.dumps({**_PAGE, "status": "error"}).encode(), 503) as (url, _):
        assert run([url]) == 1
    assert capsys.readouterr().out.startswith("error\n")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"status":"ok"}'])
def test_something_else_answers(body: bytes) -> None:
    with page_at(body) as (url, _), pytest.raises(CommandFailed, match="is not Trunkline"):
        fetch(url, "")


def test_nobody_answers() -> None:
    with pytest.raises(CommandFailed, match="no server answers at"):
        fetch("http://127.0.0.1:9", "")


@pytest.mark.parametrize("arguments", [["ftp://x"], ["--interval", "0"]])
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        run(arguments)
