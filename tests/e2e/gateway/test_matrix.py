"""Every client dialect against every backend dialect: what works, and what is refused by name.

`docs/matrix.md` is made of what is seen here: TRUNKLINE_WRITE_MATRIX=1 writes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.e2e.gateway.conftest import PATIENT
from tests.e2e.gateway.serving import DIALECTS, Dialect, gateway, health, wait_idle
from tests.support.server import Server, serve, write_rules
from tests.support.upstreams.script import Call, Script
from tests.support.upstreams.server import Upstream, start

PAGE = Path(__file__).resolve().parents[3] / "docs" / "matrix.md"
# In the log of the other Trunkline.
GONE = "(client closed)"
TEXT = "Hello from the stand-in."
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
OBJECT = '{"city": "Paris"}'
CALL = Call("get_weather", {"city": "Paris"})
# Kinds with a stand-in, and those that another Trunkline stands in for, with the dialect spoken.
STAND_INS = (
    *("openai", "mistral", "anthropic", "gemini", "vertex-claude", "cohere", "bedrock"),
    *("ollama", "tgi"),
)
OURS = {
    "responses": ("trunkline", "openai.responses"),
    "completions": ("trunkline", "openai.completions"),
    "llamacpp": ("llamacpp", "llamacpp.completion"),
    "kserve": ("kserve", "kserve.generate"),
}
BACKENDS = (*STAND_INS, *OURS)
CASES = ("whole", "stream", "tools", "json_schema", "error", "cancel")
# Dialects that know tools, and those that know schemas.
WITH_TOOLS = ("openai.chat", "openai.responses", "anthropic.messages", "ollama.chat")
WITHOUT_SCHEMAS = ("kserve.generate",)


class Bench(NamedTuple):
    """The gateway, what is behind it, and what was seen."""

    server: Server
    client: httpx.Client
    upstreams: dict[str, Upstream]
    other: Server
    seen: dict[tuple[str, str, str], str]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    directory = tmp_path_factory.mktemp("matrix")
    rules = write_rules(
        directory / "rules.json",
        {"contains": "endless", "text": "abc ", "ms_per_token": 5, "action": "endless"},
        {"contains": "tools please", "text": _hermes()},
        {"contains": "object please", "text": OBJECT},
        {"contains": "fail please", "text": "so", "action": "fail", "after": 0},
        default={"text": TEXT},
    )
    flags = ("--executor", "scripted", "--tool-call-parser", "hermes")
    with ExitStack() as stack:
        other_directory = directory / "other"
        other_directory.mkdir()
        other = stack.enter_context(serve(other_directory, str(rules), *flags))
        upstreams = {kind: stack.enter_context(start(kind)) for kind in STAND_INS}
        backends = {
            kind: {"kind": kind, "url": upstream.url, "models": ["stand-in"]}
            for kind, upstream in upstreams.items()
        }
        for name, (kind, dialect) in OURS.items():
            backends[name] = {"kind": kind, "url": other.url, "models": ["rules"]}
            backends[name]["dialect"] = dialect
        # Of what these speak besides, there are no stand-ins.
        backends["openai"]["kind"] = "openai-compatible"
        backends["ollama"]["dialect"] = "ollama"
        backends["vertex-claude"]["kind"] = "vertex"
        backends["vertex-claude"]["models"] = ["claude-sonnet-4-5@20250929"]
        backends["vertex-claude"]["provider"] = {"project": "p"}  # type: ignore[assignment]
        backends["bedrock"]["provider"] = {"region": "us-east-1"}  # type: ignore[assignment]
        config = {
            "defaults": {
                "backend": {"probe": False, "health": {"interval": 60}},
                "route": {"retries": {"attempts": 0, "retry_after": 0}, "breaker": PATIENT},
            },
            "backends": {
                name: {**backend, "api_key": "sk-secret-of-the-matrix"}
                for name, backend in backends.items()
            },
            "routes": {name: f"{name}/{backends[name]['models'][0]}" for name in BACKENDS},
        }
        server = stack.enter_context(gateway(directory / "gateway", config))
        client = stack.enter_context(httpx.Client(base_url=server.url, timeout=20))
        # What a backend says of itself decides what may be asked of it.
        deadline = time.monotonic() + 60
        while not all(health(server)["backends"][name]["state"] == "ready" for name in OURS):
            assert time.monotonic() < deadline, health(server)
            time.sleep(0.02)
        yield Bench(server, client, upstreams, other, {})


def _hermes() -> str:
    call = json.dumps({"name": CALL.name, "arguments": CALL.arguments})
    return f"<tool_call>\n{call}\n</tool_call>"


def play(bench: Bench, name: str, script: Script) -> None:
    """What the stand-in answers; the other Trunkline goes by the prompt."""
    if name in bench.upstreams:
        bench.upstreams[name].play(script)


def note(bench: Bench, dialect: Dialect, name: str, case: str, response: httpx.Response) -> bool:
    """Whether it works; a refusal must be clear, in the dialect, and name what it is about."""
    if response.status_code == 200:
        bench.seen[dialect.name, name, case] = "yes"
        return True
    # llama.cpp's status of what is not supported is 501.
    statuses = (400, 501) if dialect.name.startswith("llamacpp") else (400, 422)
    assert response.status_code in statuses, (response.status_code, response.text)
    words = dialect.error(response.content)
    assert words, response.text
    named = [field for field in _FIELDS if field in response.text]
    assert named, response.text
    bench.seen[dialect.name, name, case] = "refused"
    return False


_FIELDS = ("prompt", "conversations", "tools", "json_schema", "grammar", "format", "messages")
PAIRS = pytest.mark.parametrize("name", BACKENDS)
EVERY = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())


def post(bench: Bench, dialect: Dialect, name: str, body: Any, *, stream: bool) -> httpx.Response:
    return bench.client.post(dialect.where(name, stream=stream), json=body)


@PAIRS
@EVERY
def test_whole(bench: Bench, dialect: Dialect, name: str) -> None:
    play(bench, name, Script())
    response = post(bench, dialect, name, dialect.body(name, stream=False), stream=False)
    if note(bench, dialect, name, "whole", response):
        said = dialect.text(response.content, stream=False)
        # Triton's generate repeats the prompt.
        assert said.removeprefix("Hi") == TEXT


@PAIRS
@EVERY
def test_stream(bench: Bench, dialect: Dialect, name: str) -> None:
    play(bench, name, Script())
    response = post(bench, dialect, name, dialect.body(name, stream=True), stream=True)
    if note(bench, dialect, name, "stream", response):
        assert dialect.text(response.content, stream=True) == TEXT
        assert not dialect.error(response.content, stream=True)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@PAIRS
@pytest.mark.parametrize("dialect", [DIALECTS[name] for name in WITH_TOOLS], ids=WITH_TOOLS)
def test_tools(bench: Bench, dialect: Dialect, name: str, stream: bool) -> None:
    play(bench, name, Script(pieces=(), calls=(CALL,)))
    body = dialect.body(name, stream=stream, text="tools please")
    body["tools"] = [_tool(dialect)]
    response = post(bench, dialect, name, body, stream=stream)
    if note(bench, dialect, name, "tools", response):
        assert CALL.name in response.text
        assert "Paris" in response.text.replace("\\", "") or stream
        if name in bench.upstreams:
            assert b"get_weather" in bench.upstreams[name].requests[-1].data


def _tool(dialect: Dialect) -> dict[str, Any]:
    function = {"name": CALL.name, "description": "Weather", "parameters": SCHEMA}
    if dialect.name == "anthropic.messages":
        return {"name": CALL.name, "description": "Weather", "input_schema": SCHEMA}
    if dialect.name == "openai.responses":
        return {"type": "function", **function}
    return {"type": "function", "function": function}


_SCHEMAS = [one for one in DIALECTS.values() if one.name not in WITHOUT_SCHEMAS]


@PAIRS
@pytest.mark.parametrize("dialect", _SCHEMAS, ids=[one.name for one in _SCHEMAS])
def test_json_schema(bench: Bench, dialect: Dialect, name: str) -> None:
    play(bench, name, Script(pieces=(OBJECT,)))
    body = _with_schema(dialect, dialect.body(name, stream=False, text="object please"))
    response = post(bench, dialect, name, body, stream=False)
    if note(bench, dialect, name, "json_schema", response):
        assert json.loads(dialect.text(response.content, stream=False)) == json.loads(OBJECT)
        if name in bench.upstreams:
            # Bedrock has the schema as text in JSON.
            sent = bench.upstreams[name].requests[-1].data.replace(b"\\", b"")
            assert b'"city"' in sent


def _with_schema(dialect: Dialect, body: dict[str, Any]) -> dict[str, Any]:
    named = {"name": "place", "schema": SCHEMA, "strict": True}
    match dialect.name:
        case "openai.chat":
            return body | {"response_format": {"type": "json_schema", "json_schema": named}}
        case "openai.completions":
            return body | {"response_format": {"type": "json_schema", "json_schema": named}}
        case "openai.responses":
            return body | {"text": {"format": {"type": "json_schema", **named}}}
        case "anthropic.messages":
            return body | {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
        case "ollama.chat" | "ollama.generate":
            return body | {"format": SCHEMA}
        case "tgi.generate":
            grammar = {"type": "json", "value": SCHEMA}
            return body | {"parameters": body["parameters"] | {"grammar": grammar}}
        case "llamacpp.completion":
            return body | {"json_schema": SCHEMA}
        case "sglang.generate":
            return body | {"sampling_params": {"json_schema": json.dumps(SCHEMA)}}
    raise AssertionError(dialect.name)


# Status of the upstream -> those that a client may see.
ERRORS = {400: (400, 422), 401: (500, 502), 429: (429, 503), 500: (500, 502)}


@pytest.mark.parametrize(
    ("name", "status"),
    # The other Trunkline fails in one way.
    [(name, status) for name in BACKENDS for status in ERRORS if name not in OURS or status == 500],
)
@EVERY
def test_error(bench: Bench, dialect: Dialect, name: str, status: int) -> None:
    if name not in OURS:
        play(bench, name, Script(error=status, message="because of the moon"))
    body = dialect.body(name, stream=False, text="fail please")
    response = post(bench, dialect, name, body, stream=False)
    refused = bench.seen.get((dialect.name, name, "whole")) == "refused"
    words = dialect.error(response.content)
    assert words
    assert "sk-secret" not in response.text
    if refused:
        assert response.status_code in (400, 422, 501)
        bench.seen[dialect.name, name, "error"] = "refused"
        return
    assert response.status_code in ERRORS[status], response.text
    # What a server says of our key is not for clients.
    if name not in OURS and status != 401:
        assert "because of the moon" in words
    bench.seen[dialect.name, name, "error"] = "yes"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@PAIRS
@EVERY
def test_cancel(bench: Bench, dialect: Dialect, name: str, stream: bool) -> None:
    """The client hangs up: so do we, at once."""
    if (dialect.name, name, "whole") not in bench.seen:
        test_whole(bench, dialect, name)
    if bench.seen[dialect.name, name, "whole"] == "refused":
        bench.seen[dialect.name, name, "cancel"] = "refused"
        return
    play(bench, name, Script(fault="hang_mid"))
    body = json.dumps(dialect.body(name, stream=stream, text="endless")).encode()
    head = (
        f"POST {dialect.where(name, stream=stream)} HTTP/1.1\r\nhost: x\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    if name in bench.upstreams:
        with _asked(bench, head.encode() + body, stream=stream):
            bench.upstreams[name].wait(lambda upstream: bool(upstream.requests))
        bench.upstreams[name].wait_cancelled(1)
    else:
        # A whole answer does not tell that it is under way there: too soon it is not yet, too late
        # no more.
        before = gone = 0
        for pause in (0.15, 0.4, 0.25, 0.05, 0.6):
            before = bench.other.log.read_text().count(GONE)
            with _asked(bench, head.encode() + body, stream=stream):
                if not stream:
                    time.sleep(pause)
            deadline = time.monotonic() + (30 if stream else 4)
            while (gone := bench.other.log.read_text().count(GONE)) == before:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.02)
            if stream or gone > before:
                break
        assert gone > before
    bench.seen[dialect.name, name, "cancel"] = "yes"


@contextlib.contextmanager
def _asked(bench: Bench, request: bytes, *, stream: bool) -> Iterator[None]:
    """A client that goes after that; a stream has begun."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", bench.server.port))) as sock:
        sock.sendall(request)
        if stream:
            sock.settimeout(30)
            assert sock.recv(20).startswith(b"HTTP/1.1 200")
        yield


def test_nothing_is_left_behind(bench: Bench) -> None:
    wait_idle(bench.server)
    log = bench.server.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]
    assert "sk-secret" not in log


def test_page(bench: Bench) -> None:
    """docs/matrix.md says what is."""
    if len(bench.seen) < len(DIALECTS) * len(BACKENDS) * 4:
        pytest.skip("only some of the cases ran")
    page = _page(bench.seen)
    if os.environ.get("TRUNKLINE_WRITE_MATRIX"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page


_HEAD = """\
# Which client speaks to which backend

Rows are the dialects of clients, columns those of backends. Each letter is a case that
`tests/e2e/gateway/test_matrix.py` tries: **w**hole answers, **s**treams, **t**ools,
**j**SON schemas, **e**rrors in the client's words, and **c**ancelling upstream when the client
goes. A dot: refused with a 4xx that names what the backend cannot express. A dash: the client's
dialect has no such thing. This page is written by that test and checked by it.

"""


def _page(seen: dict[tuple[str, str, str], str]) -> str:
    lines = ["| | " + " | ".join(BACKENDS) + " |", "| --- |" + " --- |" * len(BACKENDS)]
    for dialect in DIALECTS:
        cells = []
        for name in BACKENDS:
            marks = {"yes": None, "refused": "·"}
            told = [seen.get((dialect, name, case)) for case in CASES]
            letters = [
                "–" if what is None else marks[what] or case[0]
                for case, what in zip(CASES, told, strict=True)
            ]
            cells.append("`" + "".join(letters) + "`")
        lines.append(f"| {dialect} | " + " | ".join(cells) + " |")
    return _HEAD + "\n".join(lines) + "\n"
