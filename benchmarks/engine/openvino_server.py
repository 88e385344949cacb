"""OpenVINO GenAI behind HTTP, as far as the benchmark asks: streamed completions of token ids.

    PEERS/openvino/bin/python openvino_server.py MODEL.gguf PORT THREADS KV_TOKENS

It runs in OpenVINO's own environment and imports nothing of this project. OpenVINO GenAI has no
server of its own in Python; this one adds as little as it can: its continuous batching is stepped
by one thread, each connection waits in another, and tokens pass as a count, without their text.
OpenVINO's defaults hold for what is not set here: int8 KV cache, activations quantized to int8.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import Any

# Prompt tokens in one step. OpenVINO's default is 256; 512 takes a prompt in faster.
_BATCHED = 512
# Tokens in one block of its KV cache on a CPU.
_BLOCK = 32
# Seconds that a connection waits for its next token.
_PATIENCE = 600.0


@dataclass
class Request:
    """One completion, between its connection and the stepping thread."""

    ids: list[int]
    tokens: int
    temperature: float
    top_p: float
    # How many tokens came with a step, or what went wrong; 0 at the end.
    news: queue.Queue[int | Exception] = field(default_factory=queue.Queue)
    # The client has left.
    left: threading.Event = field(default_factory=threading.Event)


class Engine:
    """Steps a `ContinuousBatchingPipeline` as long as it has requests."""

    def __init__(self, genai: Any, tensor: Any, pipeline: Any) -> None:
        # The modules come from outside so that importing this file needs neither.
        self._genai = genai
        self._tensor = tensor
        self._pipeline = pipeline
        self._arrivals: queue.Queue[Request] = queue.Queue()
        self._running: list[tuple[Request, Any]] = []
        self._count = 0

    def submit(self, request: Request) -> None:
        """Begin a request with the next step."""
        self._arrivals.put(request)

    def run(self) -> None:
        """For ever."""
        while True:
            try:
                self._admit()
                self._pipeline.step()
                self._running = [one for one in self._running if not self._tell(*one)]
            except RuntimeError as error:
                for request, handle in self._running:
                    handle.cancel()
                    request.news.put(error)
                self._running = []

    def _admit(self) -> None:
        """All that wait; where nothing runs, waits for the first."""
        while not self._running or not self._arrivals.empty():
            request = self._arrivals.get()
            config = self._genai.GenerationConfig()
            config.max_new_tokens, config.ignore_eos = request.tokens, True
            config.do_sample = request.temperature > 0
            if config.do_sample:
                config.temperature, config.top_p = request.temperature, request.top_p
            self._count += 1
            try:
                handle = self._pipeline.add_request(self._count, self._tensor(request.ids), config)
            except (RuntimeError, TypeError, ValueError) as error:
                request.news.put(error)
                continue
            self._running.append((request, handle))

    def _tell(self, request: Request, handle: Any) -> bool:
        """Hand over what the step made; whether the request is done."""
        made = 0
        while handle.can_read():
            made += sum(len(output.generated_ids) for output in handle.read().values())
        request.tokens -= made
        if made:
            request.news.put(made)
        if request.left.is_set():
            handle.cancel()
            return True
        if handle.get_status() == self._genai.GenerationStatus.RUNNING:
            return False
        request.news.put(0)
        return True


def handler(engine: Engine) -> type[BaseHTTPRequestHandler]:
    """The class that answers a connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing: the log would take time from the engine."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request = Request(
                body["prompt"],
                body["max_tokens"],
                body.get("temperature", 1.0),
                body.get("top_p", 1.0),
            )
            engine.submit(request)
            self.close_connection = True
            try:
                self._stream(request)
            except OSError:
                request.left.set()

        def _stream(self, request: Request) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            made = 0
            while news := request.news.get(timeout=_PATIENCE):
                if isinstance(news, Exception):
                    self._event({"error": {"message": str(news)}})
                    return
                made += news
                self._event({"choices": [{"index": 0, "text": " token" * news}]})
            usage = {"prompt_tokens": len(request.ids), "completion_tokens": made}
            self._event({"choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")

        def _event(self, content: dict[str, Any]) -> None:
            self.wfile.write(b"data: %s\n\n" % json.dumps(content).encode())

    return Handler


class Server(ThreadingHTTPServer):
    """Each connection in a thread of its own; 64 may arrive at once."""

    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    """Load the model, then serve."""
    # By name, since not all are in the environment that this project's types are checked in.
    genai, openvino, numpy = map(import_module, ("openvino_genai", "openvino", "numpy"))
    model, (port, threads, kv_tokens) = sys.argv[1], map(int, sys.argv[2:])
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = kv_tokens // _BLOCK
    scheduler.max_num_batched_tokens = _BATCHED
    scheduler.enable_prefix_caching = True
    scheduler.dynamic_split_fuse = True
    pipeline = genai.ContinuousBatchingPipeline(
        model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}
    )

    def tensor(ids: list[int]) -> Any:
        return openvino.Tensor(numpy.array([ids], dtype=numpy.int64))

    engine = Engine(genai, tensor, pipeline)
    threading.Thread(target=engine.run, daemon=True).start()
    Server(("127.0.0.1", port), handler(engine)).serve_forever()


if __name__ == "__main__":
    main()
