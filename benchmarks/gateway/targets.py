"""The gateways that are compared: how each is started before the stand-in, and its version."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from benchmarks.engine.servers import free_port, this_version

# What requests carry; only LiteLLM asks for one, the others let anybody in.
KEY = "sk-bench"
_REPOSITORY = Path(__file__).resolve().parents[2]


class Missing(Exception):
    """A peer is not installed; the text says what to do."""


@dataclass(frozen=True)
class Setup:
    """What a target is started with."""

    # Where benchmarks/gateway/install_peers put the peers.
    peers: Path
    # An empty folder for its files.
    directory: Path
    # Where it must listen, and where the stand-in does.
    port: int
    upstream: int

    def file(self, name: str, text: str) -> str:
        """Write a file into the folder; its path."""
        path = self.directory / name
        path.write_text(text)
        return str(path)


@dataclass(frozen=True)
class Target:
    """A gateway that can be started."""

    command: list[str]
    # What was measured, in words.
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)


def trunkline(setup: Setup) -> Target:
    """This tree, with the access log off, as the others'."""
    backend = {"kind": "openai-compatible", "models": ["mock"]}
    config = {
        "server": {"log_level": "warning"},
        "backends": {"mock": {**backend, "url": f"http://127.0.0.1:{setup.upstream}/v1"}},
        "routes": {"mock": "mock/mock"},
    }
    file = setup.file("trunkline.yaml", json.dumps(config))
    command = [sys.executable, "-m", "trunkline", "serve", "--config", file]
    python = ".".join(map(str, sys.version_info[:3]))
    return Target(
        [*command, "--port", str(setup.port)],
        f"{this_version()}, Python {python}",
        {
            "TRUNKLINE_HOME": str(setup.directory / "home"),
            "PYTHONPATH": f"{_REPOSITORY / 'src'}:{os.environ.get('PYTHONPATH', '')}",
        },
    )


_NGINX = """
daemon off; worker_processes 1; pid %(dir)s/pid; error_log %(dir)s/error.log warn;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 10000000; client_body_buffer_size 256k; tcp_nodelay on;
  client_body_temp_path %(dir)s/1; proxy_temp_path %(dir)s/2; fastcgi_temp_path %(dir)s/3;
  uwsgi_temp_path %(dir)s/4; scgi_temp_path %(dir)s/5;
  upstream mock { server 127.0.0.1:%(upstream)d; keepalive 256; keepalive_requests 10000000; }
  server {
    listen 127.0.0.1:%(port)d;
    location / {
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s;
    }
  }
}
"""


def nginx(setup: Setup) -> Target:
    """A proxy that looks at nothing: the floor."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise Missing("apt install nginx")
    values = {"dir": setup.directory, "port": setup.port, "upstream": setup.upstream}
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    version = re.search(r"nginx/\S+", told)
    file = setup.file("nginx.conf", _NGINX % values)
    return Target(
        [program, "-c", file, "-e", str(setup.directory / "error.log")],
        f"{version[0] if version else 'nginx'}, 1 worker, no buffering",
    )


def _installed(setup: Setup, folder: str, package: str) -> tuple[Path, str]:
    """The `bin` of a peer's environment, and name and version of the package in it."""
    found = list((setup.peers / folder).glob(f"lib/python3*/site-packages/{package}-*.dist-info"))
    if not found:
        raise Missing(f"benchmarks/gateway/install_peers FOLDER {folder}, then --peers FOLDER")
    name, version = found[0].name.removesuffix(".dist-info").rsplit("-", 1)
    return (setup.peers / folder).absolute() / "bin", f"{name.replace('_', '-')} {version}"


def _router(setup: Setup, folder: str, log_level: str, *more: str) -> Target:
    package = folder.replace("-", "_")
    programs, version = _installed(setup, folder, package)
    command = [str(programs / "python"), "-m", f"{package}.launch_router", "--host", "127.0.0.1"]
    command += ["--port", str(setup.port), "--prometheus-port", str(free_port())]
    command += ["--worker-urls", f"http://127.0.0.1:{setup.upstream}", "--log-level", log_level]
    return Target([*command, *more], f"{version}, {' '.join(more) or 'default policy'}")


def vllm_router(setup: Setup) -> Target:
    """vLLM's router in Rust, as it is."""
    return _router(setup, "vllm-router", "warning")


def vllm_router_round_robin(setup: Setup) -> Target:
    """The same without its cache-aware policy, which asks upstream twice per request."""
    return _router(setup, "vllm-router", "warning", "--policy", "round_robin")


def sglang_router(setup: Setup) -> Target:
    """SGLang's router in Rust, as it is."""
    return _router(setup, "sglang-router", "warn")


def litellm(setup: Setup) -> Target:
    """LiteLLM's proxy with one worker, without a database."""
    programs, version = _installed(setup, "litellm", "litellm")
    server = {"model": "openai/mock", "api_base": f"http://127.0.0.1:{setup.upstream}/v1"}
    model = {"model_name": "mock", "litellm_params": server | {"api_key": KEY}}
    file = setup.file("litellm.yaml", json.dumps({"model_list": [model]}))
    command = [str(programs / "python"), str(programs / "litellm"), "--config", file]
    command += ["--host", "127.0.0.1", "--port", str(setup.port)]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    return Target(command, f"{version}, 1 worker", environment | {"LITELLM_MASTER_KEY": KEY})


# By the name that --targets takes.
TARGETS: Mapping[str, Callable[[Setup], Target]] = MappingProxyType(
    {
        "trunkline": trunkline,
        "nginx": nginx,
        "vllm-router": vllm_router,
        "vllm-router-rr": vllm_router_round_robin,
        "sglang-router": sglang_router,
        "litellm": litellm,
    }
)
# Those that are written in Rust, for the ratio to the fastest of them.
RUST_ROUTERS = ("vllm-router", "vllm-router-rr", "sglang-router")
