"""Engines in containers of this machine, run by Docker or Podman.

The client of either stays with its container, and a guard beside it removes the container whatever
happens to the client or to us.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from trunkline.core.errors import Unavailable
from trunkline.residency.commands import ROWS, filled
from trunkline.residency.launcher import (
    Invocation,
    LaunchSpec,
    Running,
    SubprocessLauncher,
    free_port,
)

PROGRAMS = ("docker", "podman")
# Seconds for a program to say whether it works.
_LOOK = 15.0
# Where a container listens: only the port that we name is reachable, and from this machine alone.
_INSIDE = "0.0.0.0"  # noqa: S104
_HUB = "/hub"
# Of /dev/shm: engines pass tensors through it, and Docker gives 64 MiB.
_SHARED_MEMORY = "8g"
_METRICS = 8002
# As many as Linux follows in one path.
_MOST_LINKS = 40
# Of our own environment, what engines read that fetch a model: by name, for its value is secret.
_PASSED = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE")
# Folders that images have things of their own in: they are not hidden behind a folder of ours.
_SYSTEM = frozenset(
    ("/", "/app", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc")
) | frozenset(("/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/workspace"))  # noqa: S108


class Client(msgspec.Struct, frozen=True):
    """A program that runs containers."""

    program: str
    # Also where it is called "docker", as the package podman-docker does.
    is_podman: bool = False


class Mount(msgspec.Struct, frozen=True, order=True):
    """A file or folder of ours that is read inside."""

    inside: str
    here: str


class DockerLauncher:
    """Runs a client that stays with its container; a guard removes what outlives the client."""

    def __init__(self, processes: SubprocessLauncher, programs: Sequence[str] = PROGRAMS) -> None:
        self._processes = processes
        self._programs = tuple(programs)

    async def start(self, spec: LaunchSpec) -> Running:
        """Raises `Unavailable`, also where nothing here runs containers."""
        try:
            client = await find_client(self._programs, spec.env)
        except LookupError as error:
            raise Unavailable(f"{spec.name} cannot be started: {error}") from None
        plain = re.sub(r"[^A-Za-z0-9_.-]", "-", spec.name)[:60]
        invocation = container(
            client,
            spec,
            port=free_port(spec.port),
            metrics_port=free_port(0) if spec.command.asks("{metrics_port}") else 0,
            name=f"trunkline-{plain}-{secrets.token_hex(4)}",
            hub=_hub(spec.env),
            gpus=_has_gpus(),
        )
        return await self._processes.run(spec, invocation)


async def find_client(programs: Sequence[str], env: Mapping[str, str]) -> Client:
    """The first of the programs that works. Raises LookupError that says why none does.

    A client of Docker may well be there without its daemon.
    """
    problems = []
    for program in programs:
        if shutil.which(program, path=env.get("PATH", os.defpath)) is None:
            problems.append(f"{program} is not installed")
            continue
        works, words = await _version(program, env)
        if works:
            return Client(program, is_podman="podman" in words.lower())
        problems.append(f"{program}: {words.strip().rpartition(chr(10))[2]}")
    wanted = " or ".join(programs)
    raise LookupError(f"launch.image needs {wanted}; {'; '.join(problems)}")


async def _version(program: str, env: Mapping[str, str]) -> tuple[bool, str]:
    """Whether a program reaches what runs its containers, and what it says about that."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "version",
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return False, str(error)
    try:
        async with asyncio.timeout(_LOOK):
            words, _ = await process.communicate()
    except TimeoutError:
        return False, f"no answer within {_LOOK:g} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # It was killed: this takes no time, and leaves nothing half closed.
            await asyncio.shield(process.communicate())
    return process.returncode == 0, words.decode("utf-8", "replace")


def container(
    client: Client,
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
    model, mounts = mounted(spec.model)
    values = {
        "model": model,
        "host": _INSIDE,
        "port": str(inner),
        "metrics_port": str(_METRICS),
    }
    own = {key: filled(value, values) for key, value in spec.command.env.items()}
    first, *rest = (filled(word, values) for word in spec.command.argv)
    argv = [client.program, "run", "--rm", "--init", "--name", name]
    argv += ["-p", f"127.0.0.1:{port}:{inner}"]
    if metrics_port:
        argv += ["-p", f"127.0.0.1:{metrics_port}:{_METRICS}"]
    # We keep the log: another one, of any size, would be kept beside it.
    argv += ["--log-driver", "none", "--shm-size", _SHARED_MEMORY]
    if client.is_podman:
        # Removing it takes so many seconds; when that happens our own patience is over.
        argv += ["--stop-timeout", "1"]
    if gpus:
        argv += ["--device", "nvidia.com/gpu=all"] if client.is_podman else ["--gpus", "all"]
    for mount in mounts:
        argv += ["--mount", _bind(mount.here, mount.inside, "readonly")]
    if hub is not None:
        argv += ["--mount", _bind(str(hub), _HUB), "-e", f"HF_HOME={_HUB}"]
    for key in _variables(spec, own):
        argv += ["-e", key]
    argv += ["--entrypoint", spec.in_image or first, spec.image, *rest]
    return Invocation(
        argv=tuple(argv),
        env={**spec.env, **own},
        host="127.0.0.1",
        port=port,
        metrics_port=metrics_port,
        cleanup=(client.program, "rm", "-f", name),
    )


def _variables(spec: LaunchSpec, own: Mapping[str, str]) -> list[str]:
    """Names of what the engine is told: its own, and what a process would have inherited."""
    row = ROWS.get(spec.kind)
    passed = (*_PASSED, row.key_variable) if row is not None else _PASSED
    return sorted({*own, *(name for name in passed if spec.env.get(name))})


def _bind(here: str, inside: str, *more: str) -> str:
    """A value of ``--mount``, which is a line of CSV; ``-v`` would end a path at a colon."""
    fields = ("type=bind", f"src={here}", f"dst={inside}", *more)
    quoted = ('"' + field.replace('"', '""') + '"' for field in fields)
    return ",".join(
        text if set(field) & set(',"') else field
        for field, text in zip(fields, quoted, strict=True)
    )


def mounted(model: str) -> tuple[str, list[Mount]]:
    """What a model is called inside, and what of ours must be there.

    Paths are the same inside, so that a model keeps the name that it has in a process, and parts of
    it that lie beside it are found; also where links lead, which is how the Hugging Face Hub keeps
    its files.
    """
    if not model or not (path := Path(os.path.abspath(Path(model).expanduser()))).exists():
        return model, []
    files = [*path.rglob("*")] if path.is_dir() else [*path.parent.glob(_parts(path.name))]
    # Inside -> here.
    found = {str(path): str(path)} if path.is_dir() else dict(_around(file, file) for file in files)
    for file in files:
        for inside, here in _led_to(file):
            found.setdefault(inside, here)
    mounts = [Mount(inside, here) for inside, here in sorted(found.items())]
    return str(path), [m for m in mounts if not any(_covers(other, m) for other in mounts)]


def _parts(name: str) -> str:
    """Pattern of a GGUF file's parts; of the file itself where it has none."""
    return re.sub(r"-\d{5}-of-(\d{5})\.gguf$", r"-?????-of-\1.gguf", glob.escape(name))


def _led_to(link: Path) -> Iterator[tuple[str, str]]:
    """What a link leads to, over other links if need be: they are followed inside as well."""
    here = inside = link
    for _ in range(_MOST_LINKS):
        if not here.is_symlink():
            return
        target = here.readlink()
        here = Path(os.path.normpath(here.parent.resolve() / target))
        inside = Path(os.path.normpath(inside.parent / target))
        if here.exists():
            yield _around(here, inside)


def _around(here: Path, inside: Path) -> tuple[str, str]:
    """What to mount, as (inside, here): a file's folder, or the file where that hides too much."""
    if here.is_dir() or str(inside.parent) in _SYSTEM:
        return str(inside), str(here)
    return str(inside.parent), str(here.parent)


def _covers(outer: Mount, inner: Mount) -> bool:
    """Whether `inner` is there anyway with `outer`."""
    if outer == inner or not Path(inner.inside).is_relative_to(outer.inside):
        return False
    rest = Path(inner.inside).relative_to(outer.inside)
    return Path(inner.here).resolve() == Path(outer.here).resolve() / rest


def _has_gpus() -> bool:
    return Path("/dev/nvidiactl").exists()


def _hub(env: Mapping[str, str]) -> Path | None:
    """Where models of the Hugging Face Hub are kept, so that they are not fetched each time."""
    home = env.get("HF_HOME") or str(Path(env.get("HOME", "/nonexistent")) / ".cache/huggingface")
    path = Path(home).expanduser()
    return path if path.is_dir() else None
