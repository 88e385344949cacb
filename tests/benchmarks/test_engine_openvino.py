"""Our server before OpenVINO GenAI, with a pipeline of our own in OpenVINO's place."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.engine.client import complete
from benchmarks.engine.openvino_server import Engine, Server, handler

_RUNNING, _FINISHED = "running", "finished"


@dataclass
class Handle:
    """What OpenVINO gives for a request."""

    wanted: int
    made: list[int] = field(default_factory=list)
    taken: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)

    def can_read(self) -> bool:
        return self.taken < len(self.made)

    def read(self) -> dict[int, Any]:
        self.taken += 1
        return {0: SimpleNamespace(generated_ids=[7])}

    def get_status(self) -> str:
        return _FINISHED if len(self.made) == self.wanted else _RUNNING

    def cancel(self) -> None:
        self.cancelled.set()


class Pipeline:
    """One token per step for each request; a prompt of 13s is refused, one of 66s breaks a step."""

    def __init__(self) -> None:
        self.handles: list[Handle] = []
        self.configs: list[Any] = []
        self.broken = False
        self.begun = threading.Event()

    def add_request(self, number: int, ids: list[int], config: Any) -> Handle:
        assert number == len(self.configs) + 1
        self.configs.append(config)
        if 13 in ids:
            raise ValueError("no 13")
        self.broken = 66 in ids
        self.handles.append(Handle(config.max_new_tokens))
        self.begun.set()
        return self.handles[-1]

    def step(self) -> None:
        if self.broken:
            self.broken = False
            raise RuntimeError("out of memory")
        time.sleep(0.002)
        for handle in self.handles:
            if handle.get_status() == _RUNNING and not handle.cancelled.is_set():
                handle.made.append(7)


@pytest.fixture
def served() -> Iterator[tuple[Pipeline, int]]:
    genai = SimpleNamespace(
        GenerationConfig=SimpleNamespace, GenerationStatus=SimpleNamespace(RUNNING=_RUNNING)
    )
    pipeline = Pipeline()
    engine = Engine(genai, list, pipeline)
    server = Server(("127.0.0.1", 0), handler(engine))
    # As in the program: it ends with the process.
    threading.Thread(target=engine.run, daemon=True).start()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield pipeline, server.server_address[1]
    server.shutdown()
    thread.join(5)
    server.server_close()


async def test_streams_together(served: tuple[Pipeline, int]) -> None:
    pipeline, port = served
    answers = await asyncio.gather(
        complete(port, [1, 2, 3], 20), complete(port, [4], 10, temperature=1.0, top_p=0.95)
    )
    assert [answer.completion_tokens for answer in answers] == [20, 10]
    assert [answer.prompt_tokens for answer in answers] == [3, 1]
    assert [len(answer.chunks) for answer in answers] == [20, 10]
    by_length = {config.max_new_tokens: config for config in pipeline.configs}
    assert not by_length[20].do_sample
    assert (by_length[10].do_sample, by_length[10].top_p) == (True, 0.95)
    assert all(config.ignore_eos for config in pipeline.configs)


async def test_errors_reach_the_client_and_the_next_request_is_served(
    served: tuple[Pipeline, int],
) -> None:
    _, port = served
    with pytest.raises(RuntimeError, match="no 13"):
        await complete(port, [13], 4)
    with pytest.raises(RuntimeError, match="out of memory"):
        await complete(port, [66], 4)
    assert (await complete(port, [1], 4)).completion_tokens == 4


async def test_a_client_that_leaves_is_cancelled(served: tuple[Pipeline, int]) -> None:
    pipeline, port = served
    task = asyncio.create_task(complete(port, [1], 100_000))
    assert await asyncio.to_thread(pipeline.begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(pipeline.handles[0].cancelled.wait, 10)
