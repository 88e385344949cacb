"""The trained model as one GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from caboose.files import Vocabulary, Weights, gguf_writer, vocabulary_from_json, write_gguf
from caboose.layout import Array, Shape, TensorSpec, deinterleave, tensor_specs
from caboose.model import Llama
from caboose.template import CHAT_TEMPLATE, END_OF_TEXT, TURN_END
from caboose.tokenizer import PRE_TOKENIZER

DESCRIPTION = (
    "A very small demo and test model: it knows a few phrases about Trunkline, adds small numbers, "
    "counts, spells, repeats, tells tiny stories, writes JSON and calls tools. Nothing more."
)


def vocabulary(tokenizer: dict[str, Any]) -> Vocabulary:
    """The tokenizer with the model's special tokens and chat template."""
    return vocabulary_from_json(
        tokenizer,
        pre=PRE_TOKENIZER,
        bos=None,
        eos=TURN_END,
        pad=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
    )


def weights_of(model: Llama) -> Weights:
    """The model's parameters as float32 arrays, rounded to float16 where files store that."""
    state = model.state_dict()

    def weight(spec: TensorSpec) -> Array:
        return np.asarray(state[spec.hf_name.removeprefix("model.")].float().numpy())

    return weight


def export(path: Path, shape: Shape, model: Llama, tokenizer: dict[str, Any]) -> None:
    """Writes the GGUF; matrices F16, vectors F32."""
    writer = gguf_writer(path, shape, vocabulary(tokenizer), "F16")
    writer.add_name("caboose")
    writer.add_description(DESCRIPTION)
    writer.add_author("The Trunkline project")
    writer.add_license("apache-2.0")
    writer.add_size_label(f"{round(sum(p.numel() for p in model.parameters()) / 1e6, 1)}M")
    write_gguf(writer, shape, weights_of(model), "F16")


def read_weights(path: Path, shape: Shape, model: Llama) -> None:
    """Puts the weights of a file that `export` wrote into the model."""
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    state = {}
    for spec in tensor_specs(shape):
        values = np.asarray(tensors[spec.gguf_name].data, np.float32).reshape(spec.shape)
        values = deinterleave(values, spec.permute_heads) if spec.permute_heads else values
        state[spec.hf_name.removeprefix("model.")] = torch.from_numpy(values.copy())
    model.load_state_dict(state)


def round_to_file(model: Llama) -> None:
    """Rounds the matrices to float16, as `export` does."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(parameter.half().float())
