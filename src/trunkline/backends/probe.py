"""Trying with a few tokens what a server really does.

Each step is one small request. A 2xx answer of the right shape says that it can, a refusal that it
cannot; anything else (a timeout, a 5xx) says nothing, and the kind's row stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from trunkline.backends.http.fetch import Response
from trunkline.backends.remote import Conformance, RemoteBackend
from trunkline.backends.site import Site
from trunkline.core.errors import TrunklineError
from trunkline.wire.client import Feature

# Statuses by which servers say that they do not take something.
_REFUSALS = frozenset((400, 404, 405, 415, 422, 501))
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
# Enough for a model that thinks to begin, and for a small object.
_FEW = 16
_OBJECT = 64
_TOOL = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Look a word up.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
    },
}
_SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}

Verdict = Literal["yes", "no", "unknown"]


_CHAT = "openai.chat"
# Operation -> its dialect's own path.
_TRIED = {
    _CHAT: "/v1/chat/completions",
    "anthropic.messages": "/v1/messages",
    "openai.responses": "/v1/responses",
}


def trials(backend: RemoteBackend, model: str) -> Mapping[str, str]:
    """What to try with `model`, and where; not whether it chats where its kind does not."""
    found = {name: backend.trial(name, model, path) for name, path in _TRIED.items()}
    if _CHAT not in backend.kind.paths:
        del found[_CHAT]
    return {name: path for name, path in found.items() if path is not None}


class Prober:
    """Tries one model of one server; `paths` are `trials`."""

    def __init__(
        self, site: Site, paths: Mapping[str, str], model: str, timeout: float = 60.0
    ) -> None:
        self._site = site
        self._paths = paths
        self._model = model
        self._timeout = timeout
        self._gained: set[Feature] = set()
        self._lost: set[Feature] = set()
        self._operations: dict[str, bool] = {}
        self._notes: list[str] = []

    async def run(self) -> Conformance:
        """All steps, one after the other. Raises nothing."""
        if _CHAT in self._paths:
            await self._chat()
        await self._operation(
            "anthropic.messages",
            {"max_tokens": _FEW, "messages": [{"role": "user", "content": "Hi"}]},
            b'"message"',
        )
        await self._operation(
            "openai.responses",
            {"max_output_tokens": _FEW, "input": "Hi", "store": False},
            b'"response"',
        )
        return Conformance(
            gained=frozenset(self._gained),
            lost=frozenset(self._lost),
            operations=self._operations,
            notes=tuple(self._notes),
        )

    async def _chat(self) -> None:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        verdict, response = await self._try(options, _is_stream)
        if verdict == "no" and response is not None and response.head.status == 404:
            # No such path, or no such model: nothing else can be learnt here.
            self._note(_CHAT, "no", response)
            return
        if verdict == "yes" and response is not None:
            self._set("stream", "yes")
            self._set("stream_usage", "yes" if _USAGE.search(response.body) else "no")
        elif verdict == "no":
            self._set("stream_usage", "no")
            self._set("stream", (await self._try({"stream": True}, _is_stream))[0])
        tools: dict[str, Any] = {"tools": [_TOOL], "tool_choice": "auto"}
        self._set("tools", (await self._try(tools, _is_answer))[0])
        if "tools" not in self._lost:
            tools = {"tools": [_TOOL], "tool_choice": "required", "max_tokens": _OBJECT}
            self._set("tool_choice", (await self._try(tools, _is_answer))[0])
        schema = {"name": "probe", "schema": _SCHEMA, "strict": True}
        wanted = {"type": "json_schema", "json_schema": schema}
        body = {"response_format": wanted, "max_tokens": _OBJECT}
        self._set("json_schema", (await self._try(body, _is_object))[0])

    async def _operation(self, operation: str, body: Mapping[str, Any], mark: bytes) -> None:
        path = self._paths.get(operation)
        if path is None:
            return

        def marked(response: Response) -> Verdict:
            return "yes" if mark in response.body else "no"

        verdict, response = await self._post(path, {"model": self._model, **body}, marked)
        self._note(operation, verdict, response)
        if verdict != "unknown":
            self._operations[operation] = verdict == "yes"

    async def _try(
        self, body: Mapping[str, Any], judge: Callable[[Response], Verdict]
    ) -> tuple[Verdict, Response | None]:
        """One chat completion with `body` besides."""
        messages = [{"role": "user", "content": 'Answer {"ok": true}'}]
        whole = {"model": self._model, "messages": messages, "max_tokens": _FEW, **body}
        return await self._post(self._paths[_CHAT], whole, judge)

    async def _post(
        self, path: str, body: Mapping[str, Any], judge: Callable[[Response], Verdict]
    ) -> tuple[Verdict, Response | None]:
        data = msgspec.json.encode(body)
        try:
            response = await self._site.fetch("POST", path, data, timeout=self._timeout)
        except TrunklineError as error:
            self._notes.append(f"{path}: {error.message}")
            return "unknown", None
        if response.ok:
            return judge(response), response
        return ("no" if response.head.status in _REFUSALS else "unknown"), response

    def _set(self, feature: Feature, verdict: Verdict) -> None:
        if verdict != "unknown":
            (self._gained if verdict == "yes" else self._lost).add(feature)
        self._note(feature, verdict, None)

    def _note(self, what: str, verdict: Verdict, response: Response | None) -> None:
        status = f" ({response.head.status})" if response is not None else ""
        self._notes.append(f"{what}: {verdict}{status}")


def _is_stream(response: Response) -> Verdict:
    kind = response.head.headers.get("content-type", "")
    return "yes" if kind.startswith("text/event-stream") else "no"


def _is_answer(response: Response) -> Verdict:
    return "yes" if b'"choices"' in response.body else "no"


def _is_object(response: Response) -> Verdict:
    """Whether the answer keeps to the schema; one that was cut off says nothing."""
    try:
        choice = msgspec.json.decode(response.body)["choices"][0]
        if choice.get("finish_reason") == "length":
            return "unknown"
        told = msgspec.json.decode(choice["message"]["content"])
    except (msgspec.DecodeError, KeyError, IndexError, TypeError):
        return "no"
    return "yes" if isinstance(told, dict) and set(told) == {"ok"} else "no"
