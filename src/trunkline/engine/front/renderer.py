"""The front's side of the template worker: one rendering at a time, each bounded."""

from __future__ import annotations

import asyncio
import logging

from trunkline.core.errors import InternalError, InvalidRequest, QueueFull, TrunklineError
from trunkline.core.types import ChatInput
from trunkline.engine.bounded_worker import BoundedWorker, Died, Limits, TooSlow
from trunkline.engine.front.template_messages import LoadTemplate, Render

log = logging.getLogger(__name__)

# Processor seconds for one rendering. A conversation of 128k tokens takes well under a second.
_CPU_SECONDS = 5.0
# Address space of the worker; an idle one uses about 0.1 GB.
_MEMORY_BYTES = 1 << 30
_WALL_SECONDS = 30.0
# Conversations that may wait to be rendered.
_MAX_WAITING = 4096


class TemplateRenderer:
    """Owns the worker process and the task that talks to it.

    `start` compiles, `render` may be called by many tasks; they are served in order. A rendering
    whose caller is gone is finished or killed by its bound like any other.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_token: str = "",
        eos_token: str = "",
        cpu_seconds: float = _CPU_SECONDS,
        memory_bytes: int = _MEMORY_BYTES,
    ) -> None:
        self._load = LoadTemplate(source, bos_token, eos_token)
        self._queue: asyncio.Queue[tuple[ChatInput, asyncio.Future[str]]] = asyncio.Queue(
            _MAX_WAITING
        )
        self._worker = BoundedWorker(
            "trunkline.engine.front.template_worker",
            self._greeting,
            Limits(cpu_seconds, memory_bytes, _WALL_SECONDS),
            env={"PYTHONUNBUFFERED": "1"},
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def worker_pid(self) -> int:
        """Process id of the worker; 0 while there is none."""
        return self._worker.pid

    async def start(self) -> None:
        """Compile the template. Raises `InvalidRequest` with what is wrong with it."""
        try:
            await self._worker.start()
        except TooSlow as error:
            raise InvalidRequest(f"the chat template {error} to compile") from error
        except Died as error:
            raise InternalError(f"the template worker {error}") from error
        self._task = asyncio.get_running_loop().create_task(self._run(), name="templates")

    async def render(self, chat: ChatInput) -> str:
        """The prompt of `chat`.

        Raises `InvalidRequest` as `ChatTemplate.render` does, and where the rendering takes too
        long; `QueueFull`.
        """
        assert self._task is not None, "start comes first"
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((chat, future))
        except asyncio.QueueFull as error:
            raise QueueFull("too many conversations wait to be read", retry_after=1.0) from error
        return await future

    async def close(self) -> None:
        """End the worker; renderings under way fail."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._worker.end()
        while not self._queue.empty():
            self._queue.get_nowait()[1].cancel()

    async def _greeting(self) -> LoadTemplate:
        return self._load

    async def _run(self) -> None:
        while True:
            chat, future = await self._queue.get()
            if future.done():
                continue
            try:
                text = await self._rendered(chat)
            except TrunklineError as error:
                if not future.done():
                    future.set_exception(error)
            except asyncio.CancelledError:
                future.cancel()
                raise
            except Exception as error:  # whoever waits must hear of it, and the next be served
                log.exception("rendering a chat template")
                await self._worker.end()
                if not future.done():
                    future.set_exception(InternalError(f"the prompt was not rendered: {error}"))
            else:
                if not future.done():
                    future.set_result(text)

    async def _rendered(self, chat: ChatInput) -> str:
        try:
            return await self._worker.ask(Render(chat))
        except TooSlow as error:
            raise InvalidRequest(
                f"the model's chat template {error} for this conversation", param="messages"
            ) from error
        except Died as error:
            raise InternalError(f"the template worker {error}") from error
