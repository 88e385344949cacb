"""Real servers behind the gateway: llama.cpp's own, another Trunkline, LiteLLM's proxy, Triton."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.gateway.conftest import PATIENT
from tests.e2e.gateway.serving import DIALECTS, Dialect, gateway, health, post, wait_idle
from tests.support.clients import PYTHON
from tests.support.llama_server import llama_server
from tests.support.server import Server, free_port, serve, write_rules

CABOOSE = (
    Path(__file__).resolve().parents[3] / "src" / "trunkline" / "models_bundled" / "caboose.gguf"
)
TEXT = "Hello from the rails."
KEY = "sk-litellm-master-key"
EVERY = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Another Trunkline."""
    directory = tmp_path_factory.mktemp("other")
    rules = write_rules(
        directory / "rules.json",
        {"contains": "endless", "text": "abc ", "ms_per_token": 5, "action": "endless"},
        default={"text": TEXT},
    )
    with serve(directory, str(rules), "--executor", "scripted") as server:
        yield server


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, other: Server) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("peers")
    with ExitStack() as stack:
        theirs = stack.enter_context(llama_server(CABOOSE, directory, 1024))
        config = {
            "defaults": {"route": {"retries": {"attempts": 0}, "breaker": PATIENT}},
            # Probed, and their models are listed, as of any self-hosted server.
            "backends": {
                "llama": {"kind": "llamacpp", "url": theirs},
                "other": {"kind": "trunkline", "url": f"{other.url}/v1"},
            },
            "routes": {"llama": "llama", "other": "other"},
        }
        yield stack.enter_context(gateway(directory / "gateway", config))


def ask(line: Server, dialect: Dialect, model: str, *, stream: bool) -> httpx.Response:
    body = dialect.body(model, stream=stream)
    if model == "llama" and dialect.name == "llamacpp.completion":
        body["n_predict"] = 8
    return post(line, dialect.where(model, stream=stream), body, timeout=30)


@BOTH
@EVERY
@pytest.mark.parametrize("model", ["llama", "other"])
def test_every_dialect(line: Server, dialect: Dialect, model: str, stream: bool) -> None:
    response = ask(line, dialect, model, stream=stream)
    assert response.status_code == 200, response.text
    assert not dialect.error(response.content, stream=stream), response.text
    said = dialect.text(response.content, stream=stream)
    assert said
    if model == "other":
        assert said.removeprefix("Hi") == TEXT
    assert response.headers["x-trunkline-backend"] == model


def test_penalties_at_llama_cpp(line: Server) -> None:
    """Its own dialect: what others call neutral must not be refused there."""
    body = {"model": "llama", "inputs": "Hi", "parameters": {"repetition_penalty": 1.3}}
    response = post(line, "/generate", body)
    assert response.status_code == 200, response.text


def test_answers_are_those_of_the_server_itself(line: Server, other: Server) -> None:
    """Byte for byte, but for ids, times and the name that the client used."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "seed": 1, "temperature": 0}
    told: list[Any] = []
    for url, model in ((line.url, "other"), (other.url, "rules")):
        answer = httpx.post(f"{url}/v1/chat/completions", json=body | {"model": model}).json()
        told.append({**answer, "id": 0, "created": 0, "model": 0})
    assert told[0] == told[1]


def test_models_health_and_load(line: Server) -> None:
    deadline = time.monotonic() + 60
    while True:
        page = health(line)
        states = {name: model["state"] for name, model in page["models"].items()}
        if states == {"llama": "ready", "other": "ready"}:
            break
        assert time.monotonic() < deadline, page
        time.sleep(0.1)
    with openai.OpenAI(base_url=f"{line.url}/v1", api_key="-") as client:
        assert {model.id for model in client.models.list()} == {"llama", "other"}


def test_hang_up_reaches_the_other_trunkline(line: Server, other: Server) -> None:
    body = {"model": "other", "messages": [{"role": "user", "content": "endless"}], "stream": True}
    with httpx.stream("POST", f"{line.url}/v1/chat/completions", json=body) as response:
        next(response.iter_bytes())
    other.wait_metric("vllm:num_requests_running", 0.0)
    wait_idle(line)


def test_tokens_are_counted_there(line: Server) -> None:
    body = {"model": "other", "messages": [{"role": "user", "content": "Hi"}]}
    counted = post(line, "/v1/messages/count_tokens", body | {"max_tokens": 1}).json()
    assert counted["input_tokens"] > 0


@BOTH
def test_responses_are_kept_by_the_other_trunkline(
    line: Server, other: Server, stream: bool
) -> None:
    """Found, listed, gone on from and deleted through the gateway, with OpenAI's own client."""
    with openai.OpenAI(base_url=f"{line.url}/v1", api_key="-", max_retries=0) as client:
        if stream:
            *_, last = client.responses.create(model="other", input="Hi", stream=True)
            assert last.type == "response.completed"
            first = last.response
        else:
            first = client.responses.create(model="other", input="Hi")
        assert first.output_text == TEXT
        found = client.responses.retrieve(first.id)
        assert (found.model, found.output_text) == ("other", TEXT)
        # It is there that it is kept.
        assert httpx.get(f"{other.url}/v1/responses/{first.id}").json()["model"] == "rules"
        second = client.responses.create(model="other", input="More", previous_response_id=first.id)
        items = client.responses.input_items.list(second.id, order="asc").data
        assert [item.type for item in items] == ["message"] * 3
        # The server of another model does not have it, and says so.
        with pytest.raises(openai.BadRequestError, match="previous_response_id"):
            client.responses.create(model="llama", input="x", previous_response_id=first.id)
        with pytest.raises(openai.BadRequestError, match="synchronous"):
            client.responses.cancel(second.id)
        for response_id in (first.id, second.id):
            client.responses.delete(response_id)
            with pytest.raises(openai.NotFoundError, match="not found"):
                client.responses.retrieve(response_id)


# LiteLLM's proxy


@contextmanager
def litellm_proxy(directory: Path, api_base: str) -> Iterator[str]:
    """Its URL; skips where it is not installed."""
    program = PYTHON / "bin" / "litellm"
    if not (PYTHON / "lib").exists() or not list(PYTHON.glob("lib/python*/site-packages/fastapi")):
        pytest.skip("litellm's proxy is not installed: scripts/setup_clients says why")
    config = {
        "model_list": [
            {
                "model_name": "proxied",
                "litellm_params": {
                    "model": "openai/rules",
                    "api_base": f"{api_base}/v1",
                    "api_key": "-",
                },
            }
        ],
        "general_settings": {"master_key": KEY},
    }
    file = directory / "litellm.yaml"
    file.write_text(json.dumps(config))
    port = free_port()
    log = directory / "litellm.log"
    settings = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(PYTHON / "bin/python", program, "--config", file),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            stdout=output,
            stderr=output,
            env=os.environ | settings,
        )
    try:
        yield _wait(f"http://127.0.0.1:{port}", "/health/liveliness", process, log)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(url: str, path: str, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 240
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            if httpx.get(url + path, timeout=5).status_code == 200:
                return url
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


def test_litellm_proxy(tmp_path: Path, other: Server) -> None:
    """Behind us, and with us behind it: gateway -> LiteLLM -> Trunkline."""
    with litellm_proxy(tmp_path, other.url) as proxy:
        backends = {
            "lite": {"kind": "openai-compatible", "url": proxy, "api_key": KEY, "probe": False}
        }
        config = {"backends": backends, "routes": {"lite": "lite/proxied"}}
        with gateway(tmp_path / "gateway", config) as line:
            for name in ("openai.chat", "anthropic.messages", "ollama.chat", "openai.responses"):
                dialect = DIALECTS[name]
                for stream in (False, True):
                    response = ask(line, dialect, "lite", stream=stream)
                    assert response.status_code == 200, response.text
                    assert dialect.text(response.content, stream=stream) == TEXT
            assert KEY not in line.log.read_text()


# Triton

_ECHO = """
import numpy
import triton_python_backend_utils as utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            text = utils.get_input_tensor_by_name(request, "text_input").as_numpy()[0].decode()
            stream = utils.get_input_tensor_by_name(request, "stream")
            pieces = ["You ", "said ", text]
            if stream is None or not stream.as_numpy()[0]:
                pieces = ["".join(pieces)]
            sender = request.get_response_sender()
            for piece in pieces:
                data = numpy.array([piece.encode()], dtype=object)
                sender.send(utils.InferenceResponse([utils.Tensor("text_output", data)]))
            sender.send(flags=utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
_INPUT = '{ name: "%s" data_type: %s dims: [ 1 ] %s}'
_CONFIG = """
name: "echo"
backend: "python"
max_batch_size: 0
model_transaction_policy { decoupled: true }
input [ %s ]
output [ { name: "text_output" data_type: TYPE_STRING dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""


@contextmanager
def triton(directory: Path) -> Iterator[tuple[str, int]]:
    """Triton with one model; its URL and the port of its metrics. Skips where there is none.

    From the wheel of nvidia-pytriton, whose `tritonserver` needs its Python backend and the stub
    for our version of Python in one folder.
    """
    found = sorted(PYTHON.glob("lib/python*/site-packages/pytriton"))
    if not found:
        pytest.skip("nvidia-pytriton is not installed: scripts/setup_clients says why")
    package = found[0]
    version = "{}.{}".format(*sys.version_info)
    python = directory / "backends" / "python"
    python.mkdir(parents=True)
    parts = [*(package / "tritonserver/backends/python").iterdir()]
    parts += (package / "tritonserver/python_backend_stubs" / version).iterdir()
    for part in parts:
        (python / part.name).symlink_to(part)
    model = directory / "models" / "echo" / "1"
    model.mkdir(parents=True)
    (model / "model.py").write_text(_ECHO)
    inputs = (
        ("text_input", "TYPE_STRING", ""),
        ("stream", "TYPE_BOOL", "optional: true "),
        ("sampling_parameters", "TYPE_STRING", "optional: true "),
        ("exclude_input_in_output", "TYPE_BOOL", "optional: true "),
    )
    (model.parent / "config.pbtxt").write_text(_CONFIG % ", ".join(_INPUT % one for one in inputs))
    port, metrics = free_port(), free_port()
    libraries = f"{sysconfig.get_config_var('LIBDIR')}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    search = f"{PYTHON / 'bin'}:{os.environ['PATH']}"
    log = directory / "triton.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                package / "tritonserver/bin/tritonserver",
                "--allow-grpc=false",
                f"--model-repository={directory / 'models'}",
                f"--backend-directory={directory / 'backends'}",
                f"--http-port={port}",
                f"--metrics-port={metrics}",
            ],
            stdout=output,
            stderr=output,
            env=os.environ | {"LD_LIBRARY_PATH": libraries, "PATH": search},
        )
    try:
        yield _wait(f"http://127.0.0.1:{port}", "/v2/health/ready", process, log), metrics
    finally:
        _end(process)


def test_triton(tmp_path: Path) -> None:
    """Its health, its list of models, its metrics, and its generate extension."""
    with triton(tmp_path) as (url, metrics):
        backends = {
            "triton": {
                "kind": "triton",
                "url": url,
                "provider": {"metrics_port": str(metrics)},
                "health": {"interval": 0.2},
            }
        }
        config = {"backends": backends, "routes": {"echo": "triton/echo"}}
        with gateway(tmp_path / "gateway", config) as line:
            for name in (
                "kserve.generate",
                "openai.completions",
                "tgi.generate",
                "sglang.generate",
            ):
                dialect = DIALECTS[name]
                for stream in (False, True):
                    response = ask(line, dialect, "echo", stream=stream)
                    assert response.status_code == 200, response.text
                    assert dialect.text(response.content, stream=stream) == "You said Hi"
            refused = ask(line, DIALECTS["openai.chat"], "echo", stream=False)
            assert refused.status_code == 400
            assert "conversations" in refused.json()["error"]["message"]
            page = health(line)
            assert page["models"]["echo"]["state"] == "ready", page
            wait_idle(line)
