"""Running a GGUF through libllama's own server, greedily, several prompts at a time."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xllamacpp


@dataclass(frozen=True)
class Answer:
    """What the model said, and whether it ended the turn itself."""

    text: str
    stopped: bool
    tokens: int


class Engine:
    """A running server."""

    def __init__(self, url: str, parallel: int) -> None:
        self._url = url
        self._parallel = parallel

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own server, http
            self._url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310
            return json.load(response)

    def tokenize(self, text: str) -> list[int]:
        """libllama's token ids, special tokens recognized."""
        body = {"content": text, "add_special": False, "parse_special": True}
        ids: list[int] = self._post("/tokenize", body)["tokens"]
        return ids

    def answer(self, prompt: str, most: int = 1024) -> Answer:
        """The greedy answer to a rendered prompt, at most `most` tokens."""
        body = {"prompt": prompt, "n_predict": most, "temperature": 0.0, "cache_prompt": False}
        reply = self._post("/completion", body)
        return Answer(reply["content"], reply["stop_type"] == "eos", reply["tokens_predicted"])

    def answer_all(self, prompts: list[str]) -> Iterator[Answer]:
        """The answers in the order of the prompts."""
        with ThreadPoolExecutor(self._parallel) as pool:
            yield from pool.map(self.answer, prompts)


@contextmanager
def serving(model: Path, threads: int = 2, parallel: int = 4) -> Iterator[Engine]:
    """Starts the server on a free port of this machine and stops it at the end."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.n_parallel = parallel
    params.n_ctx = 4096 * parallel
    params.port = 0
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.verbosity = 0
    server = xllamacpp.Server(params)
    try:
        yield Engine(server.listening_address, parallel)
    finally:
        del server
