"""What runs containers on this machine, with an image of its own in it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tests.support.container_image import write_image
from tests.support.server import free_port

# Seconds for one command, and for the image, which is read whole.
_COMMAND = 30.0
_IMPORT = 120.0


class NoContainersError(Exception):
    """Nothing is run here; says why."""


class Runtime:
    """Docker or Podman, as an environment in which Trunkline finds it and nothing else."""

    def __init__(self, program: str, environment: dict[str, str], image: str) -> None:
        self.program = program
        self.environment = environment
        self.image = image

    def ask(
        self, *arguments: str, stdin: IO[bytes] | None = None, timeout: float = _COMMAND
    ) -> str:
        """What the client says. Raises `NoContainersError` with its words where it fails."""
        try:
            done = subprocess.run(
                [self.program, *arguments],
                env=self.environment,
                stdin=stdin or subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoContainersError(str(error)) from None
        if done.returncode:
            raise NoContainersError(done.stderr.decode(errors="replace").strip()[-500:])
        return done.stdout.decode()

    def named(self, name: str) -> list[str]:
        """Containers of the backend `name`, also those that have ended."""
        listed = self.ask("ps", "-a", "--format", "{{.Names}}").split()
        return [one for one in listed if one.startswith(f"trunkline-{name}-")]

    def inspect(self, container: str) -> dict[str, Any]:
        """All that is known of it."""
        found: dict[str, Any] = json.loads(self.ask("inspect", container))[0]
        return found

    def look(self) -> None:
        """Raises `NoContainersError` where trying is of no use."""
        self.ask("version")
        # Its client is two processes then, the first of which ends at SIGTERM at once.
        rootless = "{{.Host.Security.Rootless}}"
        if (
            self.program == "podman"
            and os.geteuid() == 0
            and "true" in self.ask("info", "--format", rootless)
        ):
            raise NoContainersError("it may not do here what root may")

    def try_it(self) -> None:
        """Raises `NoContainersError` unless a container with what ours need can be run."""
        options = ["--rm", "--init", "-p", f"127.0.0.1:{free_port()}:80"]
        code = "print('it runs')"
        words = self.ask("run", *options, "--entrypoint", sys.executable, self.image, "-c", code)
        if "it runs" not in words:
            raise NoContainersError(f"{self.program} run says {words!r}")


@contextlib.contextmanager
def runtime(program: str) -> Iterator[Runtime]:
    """One with the image in it, which goes in the end. Raises `NoContainersError`."""
    if shutil.which(program) is None:
        raise NoContainersError(f"{program} is not installed")
    image = f"localhost/trunkline-test-{secrets.token_hex(4)}:1"
    with _folder() as folder, contextlib.ExitStack() as stack:
        tar = folder / "image.tar"
        problems: list[str] = []
        for storage in _storages(program, folder):
            ways = [Runtime(program, environment, image) for environment in storage]
            stack.callback(_remove, ways[0])
            found = _first(ways, tar, problems)
            if found is not None:
                break
        else:
            reasons = "; ".join(dict.fromkeys(problems))
            raise NoContainersError(f"{program} runs nothing here: {reasons}")
        yield found


def _first(ways: list[Runtime], tar: Path, problems: list[str]) -> Runtime | None:
    """The first that works of those that have one storage; else `problems` has the reasons."""
    try:
        ways[0].look()
        if not tar.exists():
            with tar.open("wb") as file:
                write_image(file)
        ways[0].ask("import", str(tar), ways[0].image, timeout=_IMPORT)
    except NoContainersError as error:
        problems.append(str(error))
        return None
    for way in ways:
        try:
            way.try_it()
        except NoContainersError as error:
            problems.append(str(error))
        else:
            return way
    return None


def _remove(made: Runtime) -> None:
    with contextlib.suppress(NoContainersError):
        made.ask("rmi", "-f", made.image)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """One that Podman's storage may be in: its path is short, and what is mounted there goes."""
    folder = tempfile.mkdtemp(prefix="tl-")
    try:
        yield Path(folder)
    finally:
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (mounted := line.split()[1]).startswith(f"{folder}/"):
                subprocess.run(["umount", mounted], check=False, timeout=_COMMAND)
        shutil.rmtree(folder, ignore_errors=True)


def _storages(program: str, folder: Path) -> Iterator[list[dict[str, str]]]:
    """Environments that may work here, by where images are kept."""
    if program == "docker":
        yield [dict(os.environ)]
        return
    # Found first, so that a daemon of Docker that is there does not answer.
    hidden = folder / "bin"
    hidden.mkdir()
    (hidden / "docker").write_text("#!/bin/sh\nexit 1\n")
    (hidden / "docker").chmod(0o755)
    for driver in ("overlay", "vfs"):
        own = folder / driver
        own.mkdir()
        storage = own / "storage.conf"
        storage.write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{own}/g"\nrunroot = "{own}/r"\n'
        )
        found = []
        for oci in filter(shutil.which, ("crun", "runc")):
            configuration = own / f"{oci}.conf"
            configuration.write_text(_podman(oci, own))
            found.append(
                os.environ
                | {
                    "PATH": f"{hidden}:{os.environ['PATH']}",
                    "CONTAINERS_CONF": str(configuration),
                    "CONTAINERS_STORAGE_CONF": str(storage),
                }
            )
        if found:
            yield found


def _podman(oci: str, own: Path) -> str:
    """Its configuration: nothing that needs systemd, limits that nobody must be root to set."""
    limits = [
        f'"{name}={min(most, hard)}:{min(most, hard)}"'
        for name, most, hard in (
            ("nofile", 4096, _hard(resource.RLIMIT_NOFILE)),
            ("nproc", 4096, _hard(resource.RLIMIT_NPROC)),
        )
    ]
    return (
        f"[containers]\ndefault_ulimits = [{', '.join(limits)}]\n"
        f'[engine]\nruntime = "{oci}"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
        f'lock_type = "file"\ntmp_dir = "{own}/t"\n'
    )


def _hard(limit: int) -> int:
    found = resource.getrlimit(limit)[1]
    return sys.maxsize if found == resource.RLIM_INFINITY else found
