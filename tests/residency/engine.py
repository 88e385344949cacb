"""A small engine for tests: answers health and models as told. Run as a script.

    python engine.py PORT [--when FILE] [--say TEXT] [--exit STATUS] [--stubborn] [--child FILE]
                     [--apart] [--sick] [--crash-file FILE] [--slow SECONDS] [--gate FILE]

`--when`: it is well once that file is there. `--apart`: its child leads a session of its own, as
`ray start` leaves some. `--crash-file`: it removes that file once it is there,
and ends with status 7. `--slow`: it takes so long for each chat, and answers nobody meanwhile;
`--gate`: until that file is there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--when", default="")
    parser.add_argument("--say", default="")
    parser.add_argument("--exit", type=int, default=-1)
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--sick", action="store_true")
    parser.add_argument("--child", default="")
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--crash-file", default="")
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--gate", default=__file__)
    options = parser.parse_args()
    if options.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.child:
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        child = subprocess.Popen(sleep, start_new_session=options.apart)
        Path(options.child).write_text(str(child.pid))
    if options.say:
        print(options.say, flush=True)
    if options.exit >= 0:
        print("the model does not exist", file=sys.stderr, flush=True)
        raise SystemExit(options.exit)
    well = Path(options.when) if options.when else Path(__file__)

    class Handler(BaseHTTPRequestHandler):
        # Seconds that a connection without a request keeps all others waiting.
        timeout = 1

        def do_GET(self) -> None:
            status, body = 200, {}
            if self.path == "/health":
                ready = well.exists() and not options.sick
                status = 200 if ready else 503
            elif self.path == "/v1/models":
                body = {"object": "list", "data": [{"id": "tiny", "max_model_len": 512}]}
            elif self.path == "/environment":
                body = dict(os.environ)
            else:
                status = 404
            self.answer(status, body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            time.sleep(options.slow)
            while not Path(options.gate).exists():
                time.sleep(0.01)
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": str(os.getpid())},
                "finish_reason": "stop",
            }
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            self.answer(200, {"object": "chat.completion", "choices": [choice], "usage": usage})

        def answer(self, status: int, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    if options.crash_file:
        threading.Thread(target=crash, args=(Path(options.crash_file),), daemon=True).start()
    HTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


def crash(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)
    path.unlink()
    print("CUDA error: out of patience", flush=True)
    os._exit(7)


if __name__ == "__main__":
    main()
