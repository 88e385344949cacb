from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.residency.processes import alive
from trunkline.core.errors import Unavailable
from trunkline.residency.commands import Command
from trunkline.residency.containers import Client, DockerLauncher, Mount, container, mounted
from trunkline.residency.launcher import LaunchSpec, SubprocessLauncher

DOCKER = Client("docker")
PODMAN = Client("podman", is_podman=True)


def spec(**more: object) -> LaunchSpec:
    made = Command(
        argv=("vllm", "serve", "{model}", "--host", "{host}", "--port", "{port}"),
        env={"HF_HUB_OFFLINE": "1", "VLLM_API_KEY": "secret"},
    )
    values = {
        "name": "v",
        "kind": "vllm",
        "command": made,
        "env": {"PATH": "/bin"},
        "model": "org/name",
        "image": "vllm/vllm-openai:v1",
        "inner_port": 8000,
    }
    return LaunchSpec(**values | more)  # type: ignore[arg-type]


def test_a_container_is_reachable_from_this_machine_alone_and_no_key_is_in_its_arguments() -> None:
    made = container(DOCKER, spec(), port=1234, name="trunkline-v")
    assert " ".join(made.argv) == (
        "docker run --rm --init --name trunkline-v -p 127.0.0.1:1234:8000 --log-driver none "
        "--shm-size 8g -e HF_HUB_OFFLINE -e VLLM_API_KEY --entrypoint vllm vllm/vllm-openai:v1 "
        "serve org/name --host 0.0.0.0 --port 8000"
    )
    assert made.env == {"PATH": "/bin", "HF_HUB_OFFLINE": "1", "VLLM_API_KEY": "secret"}
    assert (made.host, made.port) == ("127.0.0.1", 1234)
    assert made.cleanup == ("docker", "rm", "-f", "trunkline-v")


def test_what_a_process_would_inherit_is_passed_by_name() -> None:
    env = {"HF_TOKEN": "hf-1", "VLLM_API_KEY": "k", "HF_ENDPOINT": "", "OTHER": "x"}
    made = container(DOCKER, spec(env=env, command=Command(argv=("vllm",))), port=1, name="n")
    assert " ".join(made.argv).count("-e ") == 2
    assert "-e HF_TOKEN -e VLLM_API_KEY" in " ".join(made.argv)
    assert made.env["HF_TOKEN"] == "hf-1"


def test_a_container_sees_the_model_the_hub_and_the_gpus(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.touch()
    found = spec(model=str(model), in_image="/app/llama-server")
    made = container(PODMAN, found, port=1, name="n", hub=tmp_path, gpus=True)
    text = " ".join(made.argv)
    assert f"--mount type=bind,src={tmp_path},dst={tmp_path},readonly" in text
    assert f"serve {model} --host" in text
    assert f"--mount type=bind,src={tmp_path},dst=/hub -e HF_HOME=/hub" in text
    assert "--device nvidia.com/gpu=all" in text
    assert "--entrypoint /app/llama-server" in text
    folder = container(DOCKER, spec(model=str(tmp_path)), port=1, name="n", gpus=True)
    assert f"serve {tmp_path} --host" in " ".join(folder.argv)
    assert "--gpus all" in " ".join(folder.argv)


def test_paths_with_colons_and_commas_can_be_mounted(tmp_path: Path) -> None:
    odd = tmp_path / "a:b,c"
    odd.mkdir()
    made = container(DOCKER, spec(model=str(odd)), port=1, name="n")
    assert f'type=bind,"src={odd}","dst={odd}",readonly' in made.argv


def test_a_name_of_a_hub_is_no_path() -> None:
    assert mounted("org/name") == ("org/name", [])
    assert mounted("") == ("", [])


def test_where_links_lead_is_mounted_too(tmp_path: Path) -> None:
    """As the Hugging Face Hub keeps its files."""
    blobs, snapshot = tmp_path / "hub/m/blobs", tmp_path / "hub/m/snapshots/1"
    elsewhere = tmp_path / "elsewhere"
    for folder in (blobs, snapshot, elsewhere):
        folder.mkdir(parents=True)
    (elsewhere / "cafe").touch()
    (blobs / "cafe").symlink_to(elsewhere / "cafe")
    (snapshot / "model.safetensors").symlink_to("../../blobs/cafe")
    (snapshot / "config.json").touch()
    (snapshot / "broken").symlink_to("nothing")
    (snapshot / "loop").symlink_to("loop")
    model, found = mounted(str(snapshot))
    assert model == str(snapshot)
    assert found == sorted(Mount(str(one), str(one)) for one in (snapshot, blobs, elsewhere))
    # Of a file its own links count, and those of its parts.
    part, other = "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"
    (snapshot / part).touch()
    (snapshot / other).symlink_to(elsewhere / "cafe")
    _, found = mounted(str(snapshot / part))
    assert found == sorted(Mount(str(one), str(one)) for one in (snapshot, elsewhere))


def test_a_linked_folder_is_mounted_by_its_own_name(tmp_path: Path) -> None:
    real, link = tmp_path / "data", tmp_path / "models"
    (real / "a").mkdir(parents=True)
    (real / "blob").touch()
    (real / "a" / "m.gguf").symlink_to("../blob")
    link.symlink_to(real)
    model, found = mounted(str(link / "a" / "m.gguf"))
    assert model == f"{link}/a/m.gguf"
    # Its links are followed from there: "..", too, is what it is called inside.
    assert found == [Mount(str(link), str(real))]


def test_folders_that_an_image_needs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: True)
    monkeypatch.setattr(Path, "is_dir", lambda _: False)
    monkeypatch.setattr(Path, "glob", lambda self, _: iter([self / "m.gguf", self / "n.gguf"]))
    found = [Mount(f"/srv/{name}.gguf", f"/srv/{name}.gguf") for name in "mn"]
    assert mounted("/srv/m.gguf") == ("/srv/m.gguf", found)


def test_metrics_have_a_port_of_their_own() -> None:
    own = Command(argv=("tritonserver", "--metrics-port={metrics_port}"))
    made = container(DOCKER, spec(command=own), port=1, metrics_port=2, name="n")
    assert "-p 127.0.0.1:2:8002" in " ".join(made.argv)
    assert made.argv[-1] == "--metrics-port=8002"
    assert made.metrics_port == 2


async def test_without_docker_it_is_told(tmp_path: Path) -> None:
    launcher = DockerLauncher(SubprocessLauncher(tmp_path))
    problem = "launch.image needs docker or podman; docker is not installed; podman is not"
    with pytest.raises(Unavailable, match=problem):
        await launcher.start(spec(env={"PATH": str(tmp_path)}))


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport sys, time\n{script}\n")
    path.chmod(0o755)


RUNS = "print('Client: Podman Engine' if sys.argv[1] == 'version' else sys.argv[:3])"


async def test_a_client_without_its_daemon_is_not_used(tmp_path: Path) -> None:
    program(tmp_path, "docker", "sys.exit('Client: 28\\nCannot connect to the Docker daemon')")
    launcher = DockerLauncher(SubprocessLauncher(tmp_path / "logs"))
    with pytest.raises(Unavailable, match=r"podman; docker: Cannot connect to the Docker daemon"):
        await launcher.start(spec(env={"PATH": str(tmp_path)}))
    program(tmp_path, "podman", RUNS)
    running = await launcher.start(spec(env={"PATH": str(tmp_path)}))
    assert await running.wait() == 0
    assert f"['{tmp_path}/podman', 'run', '--rm']" in await running.tail()


async def test_podman_that_is_called_docker_is_podman(tmp_path: Path) -> None:
    program(tmp_path, "docker", "print('podman' if sys.argv[1] == 'version' else sys.argv)")
    launcher = DockerLauncher(SubprocessLauncher(tmp_path / "logs"))
    running = await launcher.start(spec(env={"PATH": str(tmp_path)}))
    assert await running.wait() == 0
    assert "'--stop-timeout'" in await running.tail()


async def test_a_daemon_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "docker", "time.sleep(60)")
    monkeypatch.setattr("trunkline.residency.containers._LOOK", 0.3)
    launcher = DockerLauncher(SubprocessLauncher(tmp_path / "logs"))
    with pytest.raises(Unavailable, match=r"docker: no answer within 0\.3 s"):
        await launcher.start(spec(env={"PATH": str(tmp_path)}))
    monkeypatch.setattr("trunkline.residency.containers._LOOK", 300.0)
    task = asyncio.create_task(launcher.start(spec(env={"PATH": str(tmp_path)})))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_removing_a_container_is_tried_until_it_works(tmp_path: Path) -> None:
    """The daemon may be away for a moment: that is often why the client has ended."""
    tries = tmp_path / "tries"
    program(
        tmp_path,
        "docker",
        f"""
if sys.argv[1] == "rm":
    with open({str(tries)!r}, "a") as file:
        file.write(sys.argv[3] + "\\n")
    sys.exit("no daemon" if open({str(tries)!r}).read().count("\\n") < 2 else 0)
""",
    )
    launcher = DockerLauncher(SubprocessLauncher(tmp_path / "logs"))
    running = await launcher.start(spec(env={"PATH": str(tmp_path)}))
    assert await running.wait() == 0
    names = tries.read_text().split()
    assert len(names) == 2
    assert names[0] == names[1]
    assert names[0].startswith("trunkline-v-")


@pytest.mark.skipif(sys.platform != "linux", reason="orphans become the guard's children there")
async def test_podmans_monitor_lives_until_its_container_is_removed(tmp_path: Path) -> None:
    note = tmp_path / "note"
    program(
        tmp_path,
        "podman",
        f"""
import os, subprocess
if sys.argv[1] == "run":
    monitor = [sys.executable, "-c", "import time; time.sleep(60)"]
    quiet = {{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}
    child = subprocess.Popen(monitor, start_new_session=True, **quiet)
    open({str(note)!r}, "w").write(str(child.pid))
if sys.argv[1] == "rm":
    os.kill(int(open({str(note)!r}).read()), 0)
    open({str(note)!r}, "a").write(" was there")
""",
    )
    launcher = DockerLauncher(SubprocessLauncher(tmp_path / "logs"), ("podman",))
    running = await launcher.start(spec(env={"PATH": str(tmp_path)}))
    assert await running.wait() == 0
    pid, _, words = note.read_text().partition(" ")
    assert words == "was there"
    assert not alive(int(pid))


async def test_what_an_image_lacks_is_told(tmp_path: Path) -> None:
    words = "docker: Error response from daemon: manifest for vllm/vllm-openai:v1 not found"
    program(tmp_path, "docker", f"sys.argv[1] == 'run' and sys.exit({words!r})")
    launcher = DockerLauncher(SubprocessLauncher(tmp_path / "logs"))
    running = await launcher.start(spec(env={**os.environ, "PATH": str(tmp_path)}))
    assert await running.wait() == 1
    assert await running.tail() == words
