"""Things are killed; what is in flight fails clearly, later requests work, it is counted."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.residency.processes import alive
from tests.support.server import Server, serve, write_rules


def _chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "default", "messages": [{"role": "user", "content": text}], **fields}


def _ask(server: Server, text: str, **fields: Any) -> httpx.Response:
    return server.post("/v1/chat/completions", _chat(text, **fields))


def _eventually_works(server: Server, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        response = _ask(server, "hello")
        if response.status_code == 200:
            assert response.json()["choices"][0]["message"]["content"] == "Hello from the rails."
            return
        assert response.status_code in (500, 503)
        assert time.monotonic() < deadline, response.text
        time.sleep(0.1)


@pytest.mark.parametrize("victim", ["core", "front"])
def test_kill_9(scripted: Server, victim: str) -> None:
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(_ask(scripted, "endless")))
    thread.start()
    scripted.wait_metric("trunkline_requests_running", 1)
    before = scripted.descendants()
    os.kill(before[victim], signal.SIGKILL)
    thread.join(60)
    assert answers[0].status_code == 500
    assert "in flight" in answers[0].json()["error"]["message"]
    _eventually_works(scripted)
    assert scripted.descendants()["core"] != before["core"]
    assert scripted.metrics()["trunkline_engine_restarts_total"] >= 1


def test_a_crash_of_the_engine_mid_stream_is_an_error_event(scripted: Server) -> None:
    url = f"{scripted.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=_chat("crash", stream=True), timeout=30) as response:
        assert response.status_code == 200
        body = response.read().decode()
    assert '"error"' in body
    _eventually_works(scripted)


def test_a_failing_row_fails_alone(scripted: Server) -> None:
    with httpx.stream(
        "POST",
        f"{scripted.url}/v1/chat/completions",
        json=_chat("slow", stream=True),
        timeout=30,
    ) as stream:
        lines = stream.iter_lines()
        next(lines)
        failed = _ask(scripted, "fail")
        rest = "".join(lines)
    assert failed.status_code == 500
    assert rest.endswith("[DONE]")
    assert scripted.metrics()["trunkline_engine_restarts_total"] == 0


def test_a_stuck_core_is_noticed_and_replaced(tmp_path: Path) -> None:
    rules = write_rules(
        tmp_path / "rules.json",
        {"contains": "hang", "text": "x", "action": "hang"},
        default={"text": "Hello from the rails."},
    )
    options = ("--executor", "scripted", "--step-timeout", "1")
    with serve(tmp_path, str(rules), *options) as server:
        answer = _ask(server, "hang")
        assert answer.status_code == 500
        _eventually_works(server)


def test_children_die_with_the_server(scripted: Server) -> None:
    children = scripted.descendants()
    scripted.process.kill()
    scripted.process.wait()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in children.values()):
        assert time.monotonic() < deadline, "front or core outlived the server"
        time.sleep(0.05)


def test_drain_finishes_streams_and_refuses_new_requests(scripted: Server) -> None:
    url = f"{scripted.url}/v1/chat/completions"
    with httpx.Client(timeout=30) as other:
        other.get(f"{scripted.url}/ready").raise_for_status()
        with httpx.stream("POST", url, json=_chat("slow", stream=True), timeout=30) as response:
            lines = response.iter_lines()
            next(lines)
            scripted.process.send_signal(signal.SIGTERM)
            while "draining" not in scripted.log.read_text():
                time.sleep(0.01)
            # A connection that was open is told the truth, once.
            refused = other.post(url, json=_chat("hello"))
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            rest = "".join(lines)
    assert rest.endswith("[DONE]")
    assert scripted.process.wait(60) == 0


def test_drain_has_a_bound(tmp_path: Path) -> None:
    rules = write_rules(
        tmp_path / "rules.json",
        {"text": "abc", "ms_per_token": 5, "action": "endless"},
    )
    options = ("--executor", "scripted", "--drain-timeout", "1")
    with serve(tmp_path, str(rules), *options) as server:
        url = f"{server.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=_chat("x", stream=True), timeout=30) as response:
            lines = response.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            rest = "".join(lines)
        assert '"error"' in rest
        assert server.process.wait(60) == 0
