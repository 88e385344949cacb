"""Engines in real containers: `launch: {image: ...}` under Podman and under Docker.

The image is made of this machine's files (`tests.support.container_image`); where a runtime is not
installed, or refuses to run anything, its tests are skipped with the reason. They write hundreds of
megabytes and take minutes on a slow disk, so they run only where they are asked for:

    apt install podman runc catatonit   # not crun: Debian 12's refuses cgroups of both versions
    TRUNKLINE_CONTAINERS=1 python -m pytest tests/e2e/test_containers.py
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.residency.processes import command_lines
from tests.support.containers import NoContainersError, Runtime, runtime
from tests.support.server import Server, serve
from trunkline.residency.commands import Command
from trunkline.residency.containers import DockerLauncher
from trunkline.residency.launcher import LaunchSpec, SubprocessLauncher

pytestmark = pytest.mark.slow

BUNDLED = Path(__file__).parents[2] / "src/trunkline/models_bundled/caboose.gguf"
# Says that it is there, and does not want to go.
STUBBORN = "import signal, time; signal.signal(15, lambda *_: print('no', flush=True)); "
STUBBORN += "print('here', flush=True); time.sleep(60); time.sleep(60)"


@pytest.fixture(scope="module", params=["podman", "docker"])
def containers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runtime]:
    if not os.environ.get("TRUNKLINE_CONTAINERS"):
        pytest.skip("engines in containers are tried where TRUNKLINE_CONTAINERS=1 asks for it")
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(runtime(request.param))
        except NoContainersError as error:
            pytest.skip(str(error))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in found.environment.items():
            patch.setenv(name, value)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        yield found


class Setup:
    """A configuration, with names that no other test of this machine has."""

    def __init__(self, directory: Path, image: str) -> None:
        token = secrets.token_hex(4)
        self.key = f"sk-{secrets.token_hex(8)}"
        self.directory = directory
        self.file = directory / "trunkline.yaml"
        self.names = {name: f"{name}-{token}" for name in ("lc", "ours", "none")}
        self.models = {name: directory / name / "caboose.gguf" for name in ("lc", "ours")}
        for path in self.models.values():
            # As the Hugging Face Hub keeps files: a link that leads out of the model's folder.
            path.parent.mkdir()
            path.symlink_to(BUNDLED)
        launch = {"image": image, "stop_timeout": 10}
        missing = f"localhost/there-is-no-{token}:1"
        config = {
            "backends": {
                self.names["lc"]: {
                    "kind": "llamacpp",
                    "api_key": self.key,
                    "health": {"interval": 0.2},
                    "launch": launch | {"model": str(self.models["lc"])},
                },
                self.names["ours"]: {
                    "kind": "trunkline",
                    "api_key": self.key,
                    "launch": launch
                    | {"model": str(self.models["ours"]), "on_demand": True, "keep_alive": 1},
                },
                self.names["none"]: {
                    "kind": "vllm",
                    "launch": launch | {"image": missing, "model": "org/name"},
                },
            }
        }
        self.file.write_text(json.dumps(config))

    def log(self, name: str) -> str:
        path = self.directory / "home" / "logs" / f"{self.names[name]}.log"
        return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory, containers: Runtime) -> Setup:
    return Setup(tmp_path_factory.mktemp("containers"), containers.image)


@pytest.fixture(scope="module")
def server(setup: Setup) -> Iterator[Server]:
    with serve(setup.directory, "--config", str(setup.file)) as running:
        yield running


def until(holds: Callable[[], bool], timeout: float = 90.0) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)


def chat(server: Server, model: Path, **fields: Any) -> httpx.Response:
    body = {
        "model": str(model),
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    return server.post("/v1/chat/completions", body | fields)


def state(server: Server, name: str) -> tuple[str, str]:
    found = httpx.get(f"{server.url}/health", timeout=10).json()["backends"][name]
    return found["state"], found["detail"]


def the_one(containers: Runtime, name: str) -> str:
    until(lambda: len(containers.named(name)) == 1)
    return containers.named(name)[0]


def test_an_engine_in_a_container_answers(server: Server, setup: Setup) -> None:
    name = setup.names["lc"]
    until(lambda: state(server, name)[0] == "ready")
    answer = chat(server, setup.models["lc"])
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-trunkline-backend"] == name
    assert answer.json()["usage"]["completion_tokens"] > 0
    pieces = chat(server, setup.models["lc"], stream=True).text.split("\n\n")
    assert len(pieces) > 3
    assert pieces[-2] == "data: [DONE]"
    assert "llama-server listens" in setup.log("lc")


def test_nobody_else_reaches_it_or_sees_its_key(
    containers: Runtime, server: Server, setup: Setup
) -> None:
    until(lambda: state(server, setup.names["lc"])[0] == "ready")
    name = the_one(containers, setup.names["lc"])
    found = containers.inspect(name)
    ((where,),) = found["HostConfig"]["PortBindings"].values()
    assert where["HostIp"] == "127.0.0.1"
    assert found["HostConfig"]["LogConfig"]["Type"] == "none"
    # What it fetches is kept; models are read only, also what their links lead to.
    mounts = {mount["Destination"]: mount["RW"] for mount in found["Mounts"]}
    ours = {str(setup.models["lc"].parent): False, str(BUNDLED.parent): False}
    assert mounts == ours | {"/hub": True}
    # The engine asks for the key; it is in the engine's environment and in no command.
    direct = httpx.post(f"http://127.0.0.1:{where['HostPort']}/v1/chat/completions", json={})
    assert direct.status_code == 401
    assert not any(setup.key in line for line in command_lines())
    del found["Config"]["Env"]
    assert setup.key not in json.dumps(found)


def test_what_cannot_be_started_says_why_and_is_not_tried_all_the_time(
    server: Server, setup: Setup
) -> None:
    name = setup.names["none"]
    seen: list[str] = []

    def failed() -> bool:
        now, detail = state(server, name)
        seen.append(detail)
        return now == "failed"

    until(failed)
    assert f"{name} ended at its start with status 125" in seen[-1]
    assert "there-is-no" in seen[-1]
    # Pauses grow: after 1, 2, 4, 8, ... seconds.
    begun = time.monotonic()
    before = server.log.read_text().count(f"loading {name}")
    time.sleep(3)
    tries = server.log.read_text().count(f"loading {name}") - before
    assert tries <= 2 + (time.monotonic() - begun) / 2


def test_our_own_server_in_a_container_on_demand(
    containers: Runtime, server: Server, setup: Setup
) -> None:
    name = setup.names["ours"]
    until(lambda: not containers.named(name))
    # The first time nobody knows yet what it calls its models.
    answer = chat(server, setup.models["ours"])
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-trunkline-backend"] == name
    assert len(containers.named(name)) == 1
    until(lambda: not containers.named(name))
    assert state(server, name) == ("ready", "not loaded")


def test_a_container_that_dies_is_started_again(
    containers: Runtime, server: Server, setup: Setup
) -> None:
    name = setup.names["lc"]
    until(lambda: state(server, name)[0] == "ready")
    first = the_one(containers, name)
    before = server.metrics()["trunkline_engine_restarts_total"]
    containers.ask("kill", first)
    until(lambda: server.metrics()["trunkline_engine_restarts_total"] == before + 1)
    until(lambda: state(server, name)[0] == "ready")
    assert the_one(containers, name) != first
    assert chat(server, setup.models["lc"]).status_code == 200


async def test_what_ignores_sigterm_is_removed(containers: Runtime, tmp_path: Path) -> None:
    name = f"stubborn-{secrets.token_hex(4)}"
    spec = LaunchSpec(
        name=name,
        kind="vllm",
        command=Command(argv=(sys.executable, "-c", STUBBORN)),
        env=dict(os.environ),
        image=containers.image,
        stop_timeout=1.0,
    )
    running = await DockerLauncher(SubprocessLauncher(tmp_path)).start(spec)
    try:
        for _ in range(200):
            if "here" in await running.tail():
                break
            await asyncio.sleep(0.05)
        assert await running.tail() == "here"
    finally:
        status = await running.stop()
    assert status == -signal.SIGKILL
    assert "no" in await running.tail()
    assert containers.named(name) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_container_outlives_the_server(
    containers: Runtime, tmp_path: Path, number: signal.Signals
) -> None:
    setup = Setup(tmp_path, containers.image)
    names = [setup.names["lc"], setup.names["ours"]]
    with serve(tmp_path, "--config", str(setup.file)) as server:
        until(lambda: state(server, names[0])[0] == "ready")
        # One answers; the other has begun to load its model. Before that Podman 4.3 itself leaves a
        # network behind.
        loading = threading.Thread(target=lambda: _try(server, setup.models["ours"]))
        loading.start()
        until(lambda: '"GET /health/ready" 503' in setup.log("ours"))
        assert all(containers.named(name) for name in names)
        server.process.send_signal(number)
        server.process.wait(90)
        loading.join(90)
        until(lambda: not any(containers.named(name) for name in names))
        until(lambda: not any(name in line for line in command_lines() for name in names))


def _try(server: Server, model: Path) -> None:
    with contextlib.suppress(httpx.TransportError):
        chat(server, model)
