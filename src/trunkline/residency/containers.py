"""Engines in containers of this machine, run by Docker or Podman."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from trunkline.core.errors import Unavailable
from trunkline.residency.commands import filled
from trunkline.residency.launcher import (
    Invocation,
    LaunchSpec,
    Running,
    SubprocessLauncher,
    free_port,
)

PROGRAMS = ("docker", "podman")
# Where a container listens: only the port that we name is reachable, and from this machine alone.
_INSIDE = "0.0.0.0"  # noqa: S104
_MODELS = "/models"
_HUB = "/hub"
# Of /dev/shm: engines pass tensors through it, and Docker gives 64 MiB.
_SHARED_MEMORY = "8g"
_METRICS = 8002


def find_program() -> str:
    """ "docker" or "podman", whichever is installed; "" where neither is."""
    return next((name for name in PROGRAMS if shutil.which(name)), "")


class DockerLauncher:
    """Runs a client that stays with its container; a guard removes what outlives the client."""

    def __init__(self, program: str, processes: SubprocessLauncher) -> None:
        self._program = program
        self._processes = processes

    async def start(self, spec: LaunchSpec) -> Running:
        """Raises `Unavailable`, also where there is no Docker."""
        if not self._program:
            raise Unavailable(
                f"{spec.name} cannot be started: launch.image needs {' or '.join(PROGRAMS)}, "
                "which are not installed"
            )
        plain = re.sub(r"[^A-Za-z0-9_.-]", "-", spec.name)[:60]
        invocation = container(
            self._program,
            spec,
            port=free_port(spec.port),
            metrics_port=free_port(0) if spec.command.asks("{metrics_port}") else 0,
            name=f"trunkline-{plain}-{secrets.token_hex(4)}",
            hub=_hub(spec.env),
            gpus=_has_gpus(),
        )
        return await self._processes.run(spec, invocation)


def container(
    program: str,
    spec: LaunchSpec,
    *,
    port: int,
    name: str,
    metrics_port: int = 0,
    hub: Path | None = None,
    gpus: bool = False,
) -> Invocation:
    """What runs `spec` in a container called `name`.

    Values of the environment go through the client's own, so that no list of processes shows them.
    """
    inner = spec.inner_port or port
    inside, volumes = _mounted(spec.model)
    values = {
        "model": inside,
        "host": _INSIDE,
        "port": str(inner),
        "metrics_port": str(_METRICS),
    }
    own = {key: filled(value, values) for key, value in spec.command.env.items()}
    first, *rest = (filled(word, values) for word in spec.command.argv)
    argv = [program, "run", "--rm", "--init", "--name", name, "-p", f"127.0.0.1:{port}:{inner}"]
    if metrics_port:
        argv += ["-p", f"127.0.0.1:{metrics_port}:{_METRICS}"]
    argv += ["--shm-size", _SHARED_MEMORY]
    if gpus:
        argv += ["--gpus", "all"] if program == "docker" else ["--device", "nvidia.com/gpu=all"]
    if hub is not None:
        volumes = [*volumes, "-v", f"{hub}:{_HUB}", "-e", f"HF_HOME={_HUB}"]
    argv += volumes
    for key in sorted(own):
        argv += ["-e", key]
    argv += ["--entrypoint", spec.in_image or first, spec.image, *rest]
    return Invocation(
        argv=tuple(argv),
        env={**spec.env, **own},
        host="127.0.0.1",
        port=port,
        metrics_port=metrics_port,
        cleanup=(program, "rm", "-f", name),
    )


def _mounted(model: str) -> tuple[str, list[str]]:
    """What the model is called inside, and the arguments that bring it there."""
    path = Path(model).expanduser()
    if not model or not path.exists():
        return model, []
    path = path.resolve()
    # Parts of a model lie beside the first one.
    folder = path if path.is_dir() else path.parent
    inside = _MODELS if path.is_dir() else f"{_MODELS}/{path.name}"
    return inside, ["-v", f"{folder}:{_MODELS}:ro"]


def _has_gpus() -> bool:
    return Path("/dev/nvidiactl").exists()


def _hub(env: Mapping[str, str]) -> Path | None:
    """Where models of the Hugging Face Hub are kept, so that they are not fetched each time."""
    home = env.get("HF_HOME") or str(Path(env.get("HOME", "/nonexistent")) / ".cache/huggingface")
    path = Path(home).expanduser()
    return path if path.is_dir() else None
