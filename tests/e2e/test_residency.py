"""`trunkline serve --config` with models on demand and an engine of its own, in one budget."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from tests.residency.processes import alive
from tests.support.server import Server, serve, write_rules

ENGINE = str(Path(__file__).parents[1] / "residency" / "engine.py")
LONG = " ".join(f"word{n}" for n in range(60))
# Two processes of a built-in model, as residency estimates them; less than two of them fit.
BUDGET = "200M"


class Setup:
    """The server, and the file that it follows."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "trunkline.yaml"
        self.crash = directory / "crash"
        self.config: dict[str, Any] = {
            "residency": {"memory": BUDGET},
            "engines": {name: self._engine(name) for name in ("a", "b")},
            "backends": {
                "theirs": {
                    "kind": "vllm",
                    "models": ["tiny"],
                    "health": {"interval": 0.2},
                    "launch": {
                        "command": [sys.executable, ENGINE, "{port}"],
                        "args": ["--crash-file", str(self.crash)],
                        "on_demand": True,
                        "memory": "150M",
                    },
                }
            },
        }
        self.write()

    def _engine(self, name: str) -> dict[str, Any]:
        rules = write_rules(
            self.directory / f"{name}.json",
            {"contains": "long", "text": LONG, "ms_per_token": 15},
            {"contains": "", "text": f"this is {name}"},
        )
        return {"model": str(rules), "executor": "scripted", "on_demand": True}

    def write(self) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(self.config))
        fresh.replace(self.file)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(tmp_path_factory.mktemp("residency"))


@pytest.fixture(scope="module")
def server(setup: Setup) -> Iterator[Server]:
    with serve(setup.directory, "--config", str(setup.file)) as running:
        yield running


def chat(server: Server, model: str, text: str = "who?", **headers: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    return server.post("/v1/chat/completions", body, **headers)


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    found: str = response.json()["choices"][0]["message"]["content"]
    return found


def loaded(server: Server) -> list[str]:
    models = httpx.get(f"{server.url}/api/ps", timeout=30).json()["models"]
    return sorted(model["name"].removesuffix(":latest") for model in models)


def states(server: Server) -> dict[str, tuple[str, str]]:
    page = httpx.get(f"{server.url}/health", timeout=30).json()
    return {
        target["backend"]: (target["state"], target["detail"])
        for route in page["routes"]
        for target in route["targets"]
    }


def until(holds: Callable[[], bool], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def children(server: Server) -> set[int]:
    """All processes below the server."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and alive(int(folder.name)):
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
    found = {server.process.pid}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {server.process.pid}


def engine_pid(server: Server) -> int:
    for pid in children(server):
        # One that has ended meanwhile is none.
        with contextlib.suppress(OSError):
            if b"engine.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return 0


def test_nothing_is_loaded_before_it_is_asked_for(server: Server) -> None:
    assert loaded(server) == []
    assert states(server) == dict.fromkeys(("a", "b", "theirs"), ("ready", "not loaded"))


def test_requests_swap_models_in_one_budget(server: Server) -> None:
    for name in ("a", "b", "a"):
        assert text_of(chat(server, name)) == f"this is {name}"
        assert loaded(server) == [name]


def test_keep_alive_of_ollama_loads_and_unloads(server: Server) -> None:
    def ask(**fields: Any) -> dict[str, Any]:
        answer = server.post("/api/generate", {"model": "b", "stream": False, **fields})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    assert ask()["done_reason"] == "load"
    assert loaded(server) == ["b"]
    assert ask(keep_alive=0)["done_reason"] == "unload"
    until(lambda: loaded(server) == [])
    assert ask(prompt="who?", keep_alive="4s")["response"] == "this is b"
    assert loaded(server) == ["b"]
    until(lambda: loaded(server) == [])
    # With 0 it goes once the answer is complete.
    assert ask(prompt="who?", keep_alive=0)["response"] == "this is b"
    until(lambda: loaded(server) == [])


def test_ollamas_client_is_told_when_a_model_goes(server: Server) -> None:
    with ollama.Client(server.url) as client:
        for keep_alive, seconds in (("5m", 300.0), (20, 20.0)):
            client.generate(model="b", prompt="who?", keep_alive=keep_alive)
            (model,) = client.ps().models
            assert model.model == "b:latest"
            assert model.expires_at is not None
            left = model.expires_at.timestamp() - time.time()
            assert seconds - 10 < left <= seconds
        client.generate(model="b", keep_alive=-1)
        (model,) = client.ps().models
        assert model.expires_at is not None
        assert model.expires_at.year > 2100
        client.generate(model="b", keep_alive=0)
        until(lambda: not client.ps().models)


def test_a_launched_engine_takes_its_turn_and_is_started_again(
    server: Server, setup: Setup
) -> None:
    body = {"model": "tiny", "keep_alive": -1}
    assert server.post("/api/generate", body).json()["done_reason"] == "load"
    assert loaded(server) == ["tiny"]
    first = engine_pid(server)
    assert first
    assert (setup.directory / "home" / "logs").is_dir()
    before = server.metrics()["trunkline_engine_restarts_total"]
    setup.crash.touch()
    until(lambda: engine_pid(server) not in (0, first))
    until(lambda: states(server)["theirs"][0] == "ready")
    assert server.metrics()["trunkline_engine_restarts_total"] == before + 1
    assert text_of(chat(server, "a")) == "this is a"
    assert loaded(server) == ["a"]
    assert engine_pid(server) == 0


def test_what_the_file_no_longer_names_ends_its_answers(server: Server, setup: Setup) -> None:
    pieces: list[str] = []

    def read() -> None:
        body = {
            "model": "a",
            "stream": True,
            "messages": [{"role": "user", "content": "long"}],
        }
        url = f"{server.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=60) as response:
            pieces.extend(line for line in response.iter_lines() if line)

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: len(pieces) > 1)
    removed = setup.config["engines"].pop("a")
    setup.write()
    os.kill(server.process.pid, signal.SIGHUP)
    until(lambda: chat(server, "a").status_code == 404)
    assert reader.is_alive()
    reader.join(60)
    assert pieces[-1] == "data: [DONE]"
    said = [json.loads(piece.removeprefix("data: ")) for piece in pieces[:-1]]
    text = "".join(
        one["choices"][0]["delta"].get("content") or "" for one in said if one["choices"]
    )
    assert text.strip() == LONG
    # Its processes end, and its memory is there for others.
    until(lambda: not children(server))
    assert text_of(chat(server, "b")) == "this is b"
    setup.config["engines"]["a"] = removed
    setup.write()
    os.kill(server.process.pid, signal.SIGHUP)
    until(lambda: chat(server, "a").status_code == 200)


def test_a_launched_engine_goes_on_with_other_settings(tmp_path: Path) -> None:
    """What does not concern its process: nobody notices."""
    setup = Setup(tmp_path)
    del setup.config["residency"], setup.config["engines"]
    theirs = setup.config["backends"]["theirs"]
    theirs["launch"]["on_demand"] = False
    setup.write()
    with serve(tmp_path, "--config", str(setup.file)) as server:
        until(lambda: states(server)["theirs"][0] == "ready")
        first = text_of(chat(server, "tiny"))
        theirs["health"] = {"interval": 0.3}
        theirs["headers"] = {"x-one": "1"}
        setup.write()
        os.kill(server.process.pid, signal.SIGHUP)

        def applied() -> bool:
            assert httpx.get(f"{server.url}/health/ready", timeout=30).status_code == 200
            assert text_of(chat(server, "tiny")) == first
            return "theirs is no longer configured: closed" in server.log.read_text()

        until(applied)
        assert text_of(chat(server, "tiny")) == first
        assert "ended" not in server.log.read_text()


def test_a_launched_engine_answers_until_its_new_version_can(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    del setup.config["residency"], setup.config["engines"]
    launch = setup.config["backends"]["theirs"]["launch"]
    launch["on_demand"] = False
    setup.write()
    with serve(tmp_path, "--config", str(setup.file)) as server:
        until(lambda: states(server)["theirs"][0] == "ready")
        first, well = text_of(chat(server, "tiny")), tmp_path / "well"
        launch["args"] = ["--when", str(well)]
        setup.write()
        os.kill(server.process.pid, signal.SIGHUP)
        until(lambda: "serving the new configuration" in server.log.read_text())
        begun = time.monotonic()
        while time.monotonic() < begun + 1.5:
            assert httpx.get(f"{server.url}/health/ready", timeout=30).status_code == 200
            assert text_of(chat(server, "tiny")) == first
        well.touch()
        # Not one request fails on the way.
        until(lambda: text_of(chat(server, "tiny")) != first)
        until(lambda: not alive(int(first)))
        assert text_of(chat(server, "tiny")) != first


def test_keys_change_without_a_restart(server: Server, setup: Setup) -> None:
    setup.config["keys"] = ["old"]
    setup.write()
    os.kill(server.process.pid, signal.SIGHUP)
    until(lambda: chat(server, "a").status_code == 401)
    del setup.config["keys"]
    setup.config["server"] = {"api_key": ["new"]}
    setup.write()
    os.kill(server.process.pid, signal.SIGHUP)
    until(lambda: chat(server, "a", authorization="Bearer new").status_code == 200)
    assert chat(server, "a", authorization="Bearer old").status_code == 401
    assert "need a restart" not in server.log.read_text()
    setup.config["server"] = {"max_body": "2M", "api_key": ["new"]}
    setup.config["residency"] = {"memory": "1G"}
    setup.write()
    os.kill(server.process.pid, signal.SIGHUP)
    until(lambda: "changes to `residency` need a restart" in server.log.read_text())
    assert "changes to `server` need a restart" in server.log.read_text()
    assert chat(server, "a", authorization="Bearer new").status_code == 200


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    del setup.config["residency"]
    setup.config["backends"]["theirs"]["launch"]["on_demand"] = False
    setup.config["engines"]["a"]["on_demand"] = False
    setup.write()

    def ask() -> None:
        # Whether it is answered is not the point.
        with contextlib.suppress(httpx.TransportError):
            chat(server, "b")

    with serve(tmp_path, "--config", str(setup.file)) as server:
        until(lambda: loaded(server) == ["a", "tiny"])
        there = children(server)
        # The engine, and the front and the core of one model.
        assert len(there) >= 3
        # Loading when the signal comes.
        loading = threading.Thread(target=ask)
        loading.start()
        until(lambda: len(children(server)) > len(there))
        there |= children(server)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        loading.join(30)
        assert not [pid for pid in there if alive(pid)]
