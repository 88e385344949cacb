"""Every architecture against `transformers`, in float32 with the same random weights.

`torch` and `transformers` are no test dependencies: where they are missing this file is skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.executors.native.test_architectures import PROMPT, all_logits
from tests.engine.executors.real import load_real
from tests.support import tiny_models
from tests.support.tiny_hf import CONFIGS, Tensors, state_dict
from tests.support.tiny_models import HEAD, HEADS, KV_HEADS, write_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

_CLASSES = {"Gemma3Text": "Gemma3"}


def reference(model: str, weights: Tensors, **more: Any) -> np.ndarray:
    """transformers' logits behind every token of `PROMPT`, centred."""
    name, fields = CONFIGS[model]
    config = getattr(transformers, f"{name}Config")(
        vocab_size=tiny_models.VOCAB,
        hidden_size=tiny_models.EMBEDDING,
        intermediate_size=tiny_models.FEED_FORWARD,
        num_hidden_layers=tiny_models.layers_of(model),
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD,
        max_position_embeddings=tiny_models.CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings="output.weight" not in weights,
        attn_implementation="eager",
        **{
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "rope_theta": 1e4,
            **fields,
            **more,
        },
    )
    made = getattr(transformers, f"{_CLASSES.get(name, name)}ForCausalLM")(config).eval().float()
    tensors = {
        key: torch.from_numpy(value.copy()) for key, value in state_dict(model, weights).items()
    }
    missing, unexpected = made.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    made.tie_weights()
    with torch.no_grad():
        logits = made(torch.tensor([PROMPT])).logits[0].double().numpy()
    centred: np.ndarray = logits - logits.mean(axis=1, keepdims=True)
    return centred


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", CONFIGS)
def test_logits(tmp_path: Path, model: str) -> None:
    """All that differs is that keys and values are kept as f16."""
    like = "llama" if model == "mistral" else model
    right = reference(model, tiny_models.random_weights(like))
    executor = load_real("native", write_model(tmp_path / "model.gguf", like))
    ours = all_logits(executor, PROMPT, 12)
    executor.close()
    error = np.sqrt(((ours - right) ** 2).mean(axis=1)) / right.std()
    # Of two experts that are nearly as good, either may be chosen.
    limit = 0.02 if "num_experts_per_tok" in CONFIGS[model][1] else 0.005
    assert error.max() < limit, f"{error.max():.5f} at {error.argmax()}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("factor", [2.0, 8.0])
def test_yarn(tmp_path: Path, factor: float) -> None:
    original = int(tiny_models.CONTEXT / factor)
    scaling = {"rope_type": "yarn", "factor": factor, "rope_theta": 1e6}
    scaling["original_max_position_embeddings"] = original
    right = reference("qwen3", tiny_models.random_weights("qwen3"), rope_parameters=scaling)
    keys = {"rope.scaling.factor": factor, "rope.scaling.original_context_length": original}
    text = {"rope.scaling.type": "yarn"}
    path = write_model(tmp_path / "model.gguf", "qwen3", keys=keys, text=text)
    executor = load_real("native", path)
    ours = all_logits(executor, PROMPT, 12)
    executor.close()
    error = np.sqrt(((ours - right) ** 2).mean(axis=1)) / right.std()
    assert error.max() < 0.005
