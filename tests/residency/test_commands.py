from __future__ import annotations

from pathlib import Path

import pytest

from trunkline.backends.config import BackendConfig, LaunchConfig
from trunkline.residency.commands import ROWS, command, filled
from trunkline.residency.compose import inherited, launch_spec, weights
from trunkline.residency.engine_table import PROGRAMS

# What each documents as the way to start it, with our host and port.
EXPECTED = {
    "vllm": "vllm serve MODEL --host HOST --port PORT",
    "sglang": "python3 -m sglang.launch_server --model-path MODEL --host HOST --port PORT "
    "--enable-metrics",
    "tgi": "text-generation-launcher --model-id MODEL --hostname HOST --port PORT",
    "llamacpp": "llama-server --model MODEL --host HOST --port PORT --metrics",
    "lmdeploy": "lmdeploy serve api_server MODEL --server-name HOST --server-port PORT",
    "tensorrt-llm": "trtllm-serve MODEL --host HOST --port PORT",
    "ollama": "ollama serve",
    "mlc": "mlc_llm serve MODEL --host HOST --port PORT",
    "triton": "tritonserver --model-repository=MODEL --http-address=HOST --http-port=PORT "
    "--metrics-address=HOST --metrics-port={metrics_port} --allow-grpc=false",
    "trunkline": "trunkline serve MODEL --host HOST --port PORT --served-model-name MODEL",
}
VALUES = {"model": "MODEL", "host": "HOST", "port": "PORT"}


@pytest.mark.parametrize("kind", EXPECTED)
def test_each_kind_is_started_its_own_way(kind: str) -> None:
    made = command(kind, LaunchConfig(model="m"))
    assert " ".join(filled(word, VALUES) for word in made.argv) == EXPECTED[kind]


def test_no_kind_that_can_be_started_is_left_out() -> None:
    startable = {kind for kind, row in ROWS.items() if row.argv} | set(PROGRAMS) - {"litellm"}
    assert startable == set(EXPECTED)


def test_ollama_is_told_where_to_listen() -> None:
    made = command("ollama", LaunchConfig(options={"keep_alive": "10m"}))
    assert made.env == {"OLLAMA_HOST": "{host}:{port}", "OLLAMA_KEEP_ALIVE": "10m"}


def test_options_and_arguments_follow_in_the_spelling_of_the_engine() -> None:
    launch = LaunchConfig(model="m", options={"ctx_size": 4096}, args=("--seed", "1"))
    assert command("vllm", launch).argv[-4:] == ("--max-model-len", "4096", "--seed", "1")
    own = LaunchConfig(command=("my-vllm", "{port}", "{other}"), args=("-x",))
    assert command("vllm", own).argv == ("my-vllm", "{port}", "{other}", "-x")
    assert filled("{other}:{port}", {"port": "1"}) == "{other}:1"


@pytest.mark.parametrize(
    ("kind", "launch", "problem"),
    [
        ("vllm", LaunchConfig(), "launch.model must say what vllm is to load"),
        ("lmstudio", LaunchConfig(model="m"), "give launch.command"),
        ("vllm", LaunchConfig(model="m", options={"ctx_sise": 1}), "did you mean 'ctx_size'"),
    ],
)
def test_what_cannot_be_started_is_told(kind: str, launch: LaunchConfig, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        command(kind, launch)


def test_an_engine_gets_our_environment_without_keys_of_others() -> None:
    ours = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "CUDA_VISIBLE_DEVICES": "0",
        "HF_TOKEN": "hf",
        "OPENAI_API_KEY": "sk",
        "AWS_SECRET_ACCESS_KEY": "aws",
        "VLLM_API_KEY": "v",
        "LITELLM_MASTER_KEY": "m",
    }
    kept = inherited(("VLLM_API_KEY",), ours)
    assert set(kept) == {"PATH", "HOME", "CUDA_VISIBLE_DEVICES", "HF_TOKEN", "VLLM_API_KEY"}


def test_keys_go_through_the_environment_and_are_shown_nowhere() -> None:
    config = BackendConfig(name="v", kind="vllm", api_key="env:MY_KEY")
    launch = LaunchConfig(model="m", env={"MY_TOKEN": "env:TOKEN", "NOTE": "plain"})
    environ = {"MY_KEY": "sk-secret", "TOKEN": "token-1", "PATH": "/bin"}
    spec = launch_spec(config, launch, environ)
    assert spec.command.env == {
        "MY_TOKEN": "token-1",
        "NOTE": "plain",
        "VLLM_API_KEY": "sk-secret",
    }
    assert set(spec.secrets) == {"sk-secret", "token-1"}
    assert "sk-secret" not in repr(spec)
    with pytest.raises(ValueError, match="TOKEN is not set"):
        launch_spec(config, launch, {"MY_KEY": "x"})


def test_memory_is_estimated_from_weights_on_disk(tmp_path: Path) -> None:
    assert weights("org/name") == 0
    for name in ("a.safetensors", "b.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"x" * 1000)
    assert weights(str(tmp_path)) == 2500
    assert weights(str(tmp_path / "a.safetensors")) == 1250
