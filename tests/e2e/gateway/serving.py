"""A gateway in a process of its own, its configuration, and clients of every dialect."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from tests.support.server import Server, serve


@contextmanager
def gateway(directory: Path, config: Any) -> Iterator[Server]:
    """`trunkline serve --config` with `config`; JSON is YAML too."""
    directory.mkdir(exist_ok=True)
    file = directory / "trunkline.yaml"
    file.write_text(json.dumps(config))
    with serve(directory, "--config", str(file)) as server:
        yield server


def post(
    server: Server, path: str, body: Any, timeout: float = 20.0, **headers: str
) -> httpx.Response:
    """POST JSON. Not to check certificates that there are not saves reading them each time."""
    url = f"{server.url}{path}"
    return httpx.post(url, json=body, timeout=timeout, headers=headers, verify=False)


def health(server: Server, key: str = "") -> Any:
    """The health page; `key` is one of those that the server asks for."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.get(f"{server.url}/health", headers=headers, timeout=30, verify=False).json()


def targets(server: Server, key: str = "") -> dict[str, dict[str, Any]]:
    """What /health says of each target: "route: target" -> its report."""
    return {
        f"{route['name']}: {target['name']}": target
        for route in health(server, key)["routes"]
        for target in route["targets"]
    }


def wait_idle(server: Server, timeout: float = 60.0, key: str = "") -> dict[str, dict[str, Any]]:
    """Wait until nothing is under way anywhere, and return the reports of all targets."""
    deadline = time.monotonic() + timeout
    while True:
        page = health(server, key)
        busy = [
            target
            for route in page["routes"]
            for target in route["targets"]
            if target["in_flight"] or target["running"]
        ]
        queued = [route["name"] for route in page["routes"] if route["queued"]]
        if not busy and not queued:
            return targets(server, key)
        assert time.monotonic() < deadline, (busy, queued)
        time.sleep(0.05)


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How a client of one dialect asks."""

    name: str
    # Of whole answers and of streams; {model} is filled in.
    path: str
    stream_path: str
    # What its error bodies are, and what its streams consist of.
    ndjson: bool = False
    chats: bool = True

    def body(self, model: str, *, stream: bool, text: str = "Hi") -> dict[str, Any]:
        """A request."""
        turn = [{"role": "user", "content": text}]
        match self.name:
            case "openai.chat":
                return {"model": model, "messages": turn, "stream": stream}
            case "openai.completions":
                return {"model": model, "prompt": text, "stream": stream, "max_tokens": 256}
            case "openai.responses":
                return {"model": model, "input": text, "stream": stream}
            case "anthropic.messages":
                return {"model": model, "messages": turn, "stream": stream, "max_tokens": 256}
            case "ollama.chat":
                return {"model": model, "messages": turn, "stream": stream}
            case "ollama.generate":
                return {"model": model, "prompt": text, "stream": stream}
            case "tgi.generate":
                parameters = {"max_new_tokens": 256, "details": True}
                return {"model": model, "inputs": text, "parameters": parameters}
            case "llamacpp.completion":
                return {"model": model, "prompt": text, "stream": stream}
            case "kserve.generate":
                return {"text_input": text, "max_tokens": 256}
            case "sglang.generate":
                return {"model": model, "text": text, "stream": stream}
        raise AssertionError(self.name)

    def where(self, model: str, *, stream: bool) -> str:
        """Path of a request."""
        return (self.stream_path if stream else self.path).format(model=model)

    def text(self, body: bytes, *, stream: bool) -> str:
        """What an answer says."""
        if not stream:
            return _said(self.name, json.loads(body))
        pieces = [_said(self.name, one) for one in self.events(body)]
        # SGLang tells all of the text so far, each time.
        if self.name == "sglang.generate":
            return next((piece for piece in reversed(pieces) if piece), "")
        return "".join(pieces)

    def events(self, body: bytes) -> list[Any]:
        """The objects of a stream."""
        if self.ndjson:
            return [json.loads(line) for line in body.splitlines() if line]
        found = [line[5:].strip() for line in body.splitlines() if line.startswith(b"data:")]
        return [json.loads(data) for data in found if data != b"[DONE]"]

    def error(self, body: bytes, *, stream: bool = False) -> str:
        """What an error says, whose shape must be the dialect's; "" = there is none."""
        for one in reversed(self.events(body) if stream else [json.loads(body)]):
            if words := _complaint(self.name, one):
                return words
        return ""


def _said(name: str, one: Any) -> str:
    match name:
        case "openai.chat":
            choices = one.get("choices") or [{}]
            message = choices[0].get("message") or choices[0].get("delta") or {}
            return message.get("content") or ""
        case "openai.completions":
            return (one.get("choices") or [{}])[0].get("text") or ""
        case "openai.responses":
            if one.get("type") == "response.output_text.delta":
                return str(one["delta"])
            parts = [p for item in one.get("output", ()) for p in item.get("content", ())]
            return "".join(part.get("text", "") for part in parts)
        case "anthropic.messages":
            if "delta" in one:
                return one["delta"].get("text") or ""
            return "".join(p.get("text", "") for p in one.get("content", ()))
        case "ollama.chat":
            return (one.get("message") or {}).get("content") or ""
        case "ollama.generate":
            return one.get("response") or ""
        case "tgi.generate":
            if "token" in one:
                return "" if one["token"]["special"] else str(one["token"]["text"])
            return one.get("generated_text") or ""
        case "llamacpp.completion":
            return one.get("content") or ""
        case "kserve.generate":
            return one.get("text_output") or ""
        case "sglang.generate":
            return one.get("text") or ""
    raise AssertionError(name)


def _complaint(name: str, one: Any) -> str:
    error = one.get("error") if isinstance(one, dict) else None
    if name == "openai.responses" and error is None:
        if one.get("type") == "error":
            return str(one["message"])
        error = (one.get("response") or {}).get("error")
    if error is None:
        return ""
    if name in ("ollama.chat", "ollama.generate", "kserve.generate"):
        assert isinstance(error, str), one
        return error
    if name == "tgi.generate":
        assert one["error_type"], one
        return str(error)
    if name == "anthropic.messages":
        assert one["type"] == "error", one
        assert error["type"].endswith("error"), one
    if name == "llamacpp.completion":
        assert isinstance(error["code"], int), one
    return str(error["message"])


_ALL = (
    Dialect(name="openai.chat", path="/v1/chat/completions", stream_path="/v1/chat/completions"),
    Dialect(
        name="openai.completions",
        path="/v1/completions",
        stream_path="/v1/completions",
        chats=False,
    ),
    Dialect(name="openai.responses", path="/v1/responses", stream_path="/v1/responses"),
    Dialect(name="anthropic.messages", path="/v1/messages", stream_path="/v1/messages"),
    Dialect(name="ollama.chat", path="/api/chat", stream_path="/api/chat", ndjson=True),
    Dialect(name="ollama.generate", path="/api/generate", stream_path="/api/generate", ndjson=True),
    Dialect(name="tgi.generate", path="/generate", stream_path="/generate_stream", chats=False),
    Dialect(name="llamacpp.completion", path="/completion", stream_path="/completion", chats=False),
    Dialect(
        name="kserve.generate",
        path="/v2/models/{model}/generate",
        stream_path="/v2/models/{model}/generate_stream",
        chats=False,
    ),
    Dialect(name="sglang.generate", path="/generate", stream_path="/generate", chats=False),
)
DIALECTS = {one.name: one for one in _ALL}
