"""What the comparison must know of a model: its sizes, from the head of its GGUF file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trunkline.formats.gguf import Gguf, TensorInfo

# Tokens of KV cache that every server gets, over all requests.
KV_TOKENS = 24_576


@dataclass(frozen=True)
class Model:
    """Sizes of a model."""

    name: str
    # Entries of its vocabulary.
    vocabulary: int
    # Weights of all matrices. Each takes part in one product per row; the vectors are nothing
    # beside them. An embedding that is also the head counts once, another one not at all.
    weights: int
    # Of the whole file's tensors, vectors included.
    weight_bytes: int
    # Bits per weight of those matrices.
    bits: float
    # Keys and values of one token in 16 bits.
    kv_bytes: int

    @property
    def kv_memory(self) -> int:
        """Bytes of `KV_TOKENS` in 16 bits."""
        return KV_TOKENS * self.kv_bytes

    def facts(self) -> dict[str, Any]:
        """For the document of results."""
        return asdict(self) | {"kv_memory": self.kv_memory}


def read(path: Path) -> Model:
    """Sizes of a GGUF file. Raises `MalformedGguf`, or `OSError` where it cannot be read."""
    with Gguf(path) as file:
        architecture = file.string("general.architecture")
        tied = not any(tensor.name == "output.weight" for tensor in file.tensors)
        matrices = [one for one in file.tensors if _is_product(one, tied)]
        tokens = file.array("tokenizer.ggml.tokens")
        layers = file.integer(f"{architecture}.block_count")
        heads = file.integer(f"{architecture}.attention.head_count")
        kv_heads = file.integer(f"{architecture}.attention.head_count_kv", heads)
        width = file.integer(f"{architecture}.embedding_length") // max(heads, 1)
        head = sum(
            file.integer(f"{architecture}.attention.{part}_length", width)
            for part in ("key", "value")
        )
        weights = sum(map(_weights, matrices))
        return Model(
            path.stem,
            tokens.count if tokens else 0,
            weights,
            sum(tensor.nbytes for tensor in file.tensors),
            8 * sum(tensor.nbytes for tensor in matrices) / max(weights, 1),
            2 * layers * kv_heads * head,
        )


def _is_product(tensor: TensorInfo, tied: bool) -> bool:
    return len(tensor.shape) == 2 and (tied or tensor.name != "token_embd.weight")


def _weights(tensor: TensorInfo) -> int:
    return tensor.shape[0] * tensor.shape[1]
