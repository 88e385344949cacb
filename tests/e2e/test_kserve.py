"""KServe's v2 protocol: Triton's own client for health and metadata, plain HTTP for text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException

import trunkline
from tests.support.server import Server, serve, write_rules

REPLY = "Hello from the rails."
UNICODE = "naïve 東京 🚂🚃 e\u0301"


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("kserve")
    rules = write_rules(
        directory / "rules.json",
        {"contains": "fail", "text": "so far", "action": "fail", "after": 3},
        {"contains": "unicode", "text": UNICODE},
        default={"text": REPLY},
    )
    with serve(directory, str(rules), "--executor", "scripted") as server:
        yield server


@pytest.fixture
def client(scripted: Server) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"127.0.0.1:{scripted.port}") as made:
        yield made


@pytest.fixture
def model(scripted: Server) -> str:
    return str(httpx.get(f"{scripted.url}/v1/models").json()["data"][0]["id"])


def test_health(client: InferenceServerClient, model: str) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    assert client.is_model_ready(model, "1")
    assert client.is_model_ready("default")
    assert not client.is_model_ready(model, "2")
    assert not client.is_model_ready("no-such-model")


def test_server_metadata(client: InferenceServerClient) -> None:
    told = client.get_server_metadata()
    assert (told["name"], told["version"]) == ("trunkline", trunkline.__version__)
    assert "generate" in told["extensions"]


@pytest.mark.parametrize("version", ["", "1"])
def test_model_metadata(client: InferenceServerClient, model: str, version: str) -> None:
    told = client.get_model_metadata(model, version)
    assert (told["name"], told["versions"]) == (model, ["1"])
    assert told["platform"]
    assert [one["name"] for one in told["inputs"]] == ["text_input"]
    assert [(one["name"], one["datatype"]) for one in told["outputs"]] == [("text_output", "BYTES")]


def test_errors_reach_the_client(client: InferenceServerClient, model: str) -> None:
    for call in (
        lambda: client.get_model_metadata("no-such-model"),
        lambda: client.get_model_metadata(model, "2"),
        # What is not served has an error of this protocol too.
        lambda: client.get_model_config(model),
        client.get_inference_statistics,
    ):
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert caught.value.status() == "404"
        assert "exception occurred in the client" not in caught.value.message()
    with pytest.raises(InferenceServerException, match="no-such-model"):
        client.get_model_metadata("no-such-model")


def test_keys_are_asked_for_models_and_not_for_health(tmp_path_factory: Any) -> None:
    directory = tmp_path_factory.mktemp("keys")
    rules = write_rules(directory / "rules.json", default={"text": REPLY})
    arguments = (str(rules), "--executor", "scripted", "--api-key", "sk-right")
    with (
        serve(directory, *arguments) as server,
        InferenceServerClient(f"127.0.0.1:{server.port}") as client,
    ):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert not client.is_model_ready("default")
        assert client.is_model_ready("default", headers={"authorization": "Bearer sk-right"})


@pytest.mark.parametrize("ending", ["", "/versions/1"])
def test_generate(scripted: Server, model: str, ending: str) -> None:
    body = {
        "id": "42",
        "text_input": "Say it. ",
        "parameters": {"stream": False, "temperature": 0, "max_tokens": 64},
    }
    answer = scripted.post(f"/v2/models/{model}{ending}/generate", body)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "id": "42",
        "model_name": model,
        "model_version": "1",
        "text_output": f"Say it. {REPLY}",
    }


def test_generate_stream(scripted: Server, model: str) -> None:
    body = {
        "text_input": "unicode",
        "parameters": {"max_tokens": "64"},
        "return_finish_reason": True,
        "return_num_output_tokens": True,
    }
    url = f"{scripted.url}/v2/models/{model}/generate_stream"
    with httpx.stream("POST", url, json=body, timeout=60) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert "".join(event["text_output"] for event in events) == UNICODE
    assert len(events) > 3
    assert {event["model_name"] for event in events} == {model}
    assert [event.get("finish_reason") for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1]["finish_reason"] == "stop"
    assert events[-1]["num_output_tokens"] == len(UNICODE.encode()) + 1


def test_a_failure_is_told(scripted: Server, model: str) -> None:
    path = f"/v2/models/{model}/generate"
    whole = scripted.post(path, {"text_input": "fail"})
    assert whole.status_code == 500
    assert "scripted rule" in whole.json()["error"]
    streamed = scripted.post(f"{path}_stream", {"text_input": "fail"})
    blocks = streamed.text.removesuffix("\n\n").split("\n\n")
    assert "scripted rule" in json.loads(blocks[-1].removeprefix("data: "))["error"]
    refused = scripted.post(path, {"text_input": "Say it", "temperature": "hot"})
    assert (refused.status_code, list(refused.json())) == (400, ["error"])


def test_the_bundled_model(caboose: Server) -> None:
    with InferenceServerClient(f"127.0.0.1:{caboose.port}") as client:
        assert client.is_model_ready("caboose")
        assert client.get_model_metadata("caboose")["platform"] == "trunkline_llama"
    body = {"text_input": "One, two, three", "max_tokens": 12, "temperature": 0}
    whole = caboose.post("/v2/models/caboose/generate", body).json()["text_output"]
    assert whole.startswith("One, two, three")
    streamed = caboose.post("/v2/models/caboose/generate_stream", body).text
    pieces = [json.loads(line[6:])["text_output"] for line in streamed.splitlines() if line]
    assert "One, two, three" + "".join(pieces) == whole
