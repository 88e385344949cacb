"""A folder of safetensors computes what the GGUF file with the same weights does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.engine.executors.native.test_architectures import PROMPT, all_logits
from tests.engine.executors.real import load_real
from tests.support.tiny_hf import write_folder
from tests.support.tiny_models import write_model
from trunkline.store.convert import ensure_gguf


@pytest.mark.parametrize(
    ("model", "kind"), [("llama", "F32"), ("gemma3", "F32"), ("mixtral", "Q8_0"), ("phi3", "Q8_0")]
)
def test_the_same_logits(tmp_path: Path, model: str, kind: str) -> None:
    wish = "keep" if kind == "F32" else "q8_0"
    made = ensure_gguf(write_folder(tmp_path / "folder", model), wish, tmp_path / "cache")
    both = []
    for path in (made, write_model(tmp_path / "model.gguf", model, kind)):
        executor = load_real("native", path)
        both.append(all_logits(executor, PROMPT, 3))
        executor.close()
    # Gemma's norms are sums of rounded numbers here.
    np.testing.assert_allclose(both[0], both[1], rtol=0, atol=1e-2 if model == "gemma3" else 0)
