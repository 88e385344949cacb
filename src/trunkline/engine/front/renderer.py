"""The front's side of the template worker: one rendering at a time, each bounded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys

import msgspec

from trunkline.core.errors import InternalError, InvalidRequest, TrunklineError, from_info
from trunkline.core.types import ChatInput
from trunkline.engine.frames import MAX_FRAME, pack
from trunkline.engine.front.template_worker import LoadTemplate, Render, Rendered, ToWorker

log = logging.getLogger(__name__)

# Processor seconds for one rendering. A conversation of 128k tokens takes well under a second.
_CPU_SECONDS = 5.0
# Address space of the worker; an idle one uses about 0.1 GB.
_MEMORY_BYTES = 1 << 30
# Seconds of wall-clock time after which the worker is killed although the kernel did not do it.
_WALL_SECONDS = 30.0


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
        self._load = LoadTemplate(source, bos_token, eos_token, cpu_seconds, memory_bytes)
        self._queue: asyncio.Queue[tuple[ChatInput, asyncio.Future[str]]] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Rendered)

    async def start(self) -> None:
        """Compile the template. Raises `InvalidRequest` with what is wrong with it."""
        await self._spawn()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="templates")

    async def render(self, chat: ChatInput) -> str:
        """The prompt of `chat`. Raises `InvalidRequest` as `ChatTemplate.render` does, and where
        the rendering takes too long.
        """
        assert self._task is not None, "start comes first"
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((chat, future))
        return await future

    async def close(self) -> None:
        """End the worker; renderings under way fail."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._end()
        while not self._queue.empty():
            self._queue.get_nowait()[1].cancel()

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
                await self._end()
                if not future.done():
                    future.set_exception(InternalError(f"the prompt was not rendered: {error}"))
            else:
                if not future.done():
                    future.set_result(text)

    async def _rendered(self, chat: ChatInput) -> str:
        if self._process is not None and self._process.returncode is not None:
            await self._end()
        if self._process is None:
            await self._spawn()
        return (await self._ask(Render(chat))).text

    async def _spawn(self) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "trunkline.engine.front.template_worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        except OSError as error:
            raise InternalError(f"the template worker cannot start: {error}") from error
        try:
            await self._ask(self._load)
        except TrunklineError:
            await self._end()
            raise

    async def _ask(self, message: ToWorker) -> Rendered:
        """One exchange; a worker that does not answer is buried, and the next call starts one."""
        try:
            async with asyncio.timeout(_WALL_SECONDS):
                answer = await self._exchange(message)
        except (EOFError, OSError, RuntimeError, TimeoutError, msgspec.DecodeError) as error:
            # RuntimeError: uvloop's, for writing to a pipe whose reader is gone.
            code = await self._end()
            if code == -signal.SIGPROF or isinstance(error, TimeoutError):
                raise InvalidRequest(
                    "the model's chat template takes more than "
                    f"{self._load.cpu_seconds:g} s for this conversation",
                    param="messages",
                ) from error
            raise InternalError(f"the template worker ended with status {code}") from error
        except asyncio.CancelledError:
            # Its answer would be taken for that of the next question.
            await self._end()
            raise
        if answer.error is not None:
            raise from_info(answer.error)
        return answer

    async def _exchange(self, message: ToWorker) -> Rendered:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pack(self._encoder.encode(message)))
        await process.stdin.drain()
        size = int.from_bytes(await process.stdout.readexactly(4), "little")
        if size > MAX_FRAME:
            raise EOFError("the worker's answer is too large")
        return self._decoder.decode(await process.stdout.readexactly(size))

    async def _end(self) -> int:
        """Kill the worker; its return code tells who was first."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                if process.stdin is not None:
                    process.stdin.close()
                return await process.wait()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait()
