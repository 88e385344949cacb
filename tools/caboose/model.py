"""The Llama architecture, small and plain, for training only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from caboose.layout import Shape

SHAPE = Shape(
    architecture="llama",
    vocab=4096,
    hidden=256,
    feed_forward=512,
    layers=5,
    heads=8,
    kv_heads=2,
    head_dim=32,
    context=4096,
    rope_theta=10_000.0,
    norm_eps=1e-5,
)


def rotary(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each [length, head_dim], in transformers' half-split order."""
    steps = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    angles = torch.outer(torch.arange(length).float(), shape.rope_theta**-steps)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Applies the rotary embedding to [batch, heads, length, head_dim]."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class _RmsNorm(torch.autograd.Function):
    """x / rms(x) * weight with a backward of its own, which halves the passes over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = inverse.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        unit = x * inverse
        ctx.save_for_backward(unit, inverse, weight)
        scaled: Tensor = unit * weight
        return scaled

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, inverse, weight = ctx.saved_tensors
        size = unit.shape[-1]
        product = grads[0] * unit
        by_weight = product.reshape(-1, size).sum(0)
        mean = (product @ weight).unsqueeze(-1).div_(size)
        by_x = (grads[0] * weight).sub_(unit * mean).mul_(inverse)
        return by_x, by_weight, None


class Norm(nn.Module):
    """RMS normalization (https://arxiv.org/abs/1910.07467)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes the last dimension."""
        result: Tensor = _RmsNorm.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return result


class Attention(nn.Module):
    """Causal attention with grouped keys and values."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        q_size, kv_size = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, q_size, bias=False)
        self.k_proj = nn.Linear(shape.hidden, kv_size, bias=False)
        self.v_proj = nn.Linear(shape.hidden, kv_size, bias=False)
        self.o_proj = nn.Linear(q_size, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, where: Tensor | None = None) -> Tensor:
        """[batch, length, hidden] to the same, or to [selected, hidden]."""
        batch, length, _ = x.shape
        split = (batch, length, -1, self.shape.head_dim)
        heads, kv_heads = self.shape.heads, self.shape.kv_heads
        # One product for all three, and one rotation for both: fewer passes over memory.
        fused = torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight))
        mixed = functional.linear(x, fused).view(split).transpose(1, 2)
        qk, v = torch.split(mixed, [heads + kv_heads, kv_heads], dim=1)
        q, k = torch.split(rotate(qk, cos, sin), [heads, kv_heads], dim=1)
        group = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out = out.transpose(1, 2).reshape(batch, length, -1)
        result: Tensor = self.o_proj(out if where is None else out[where])
        return result


class FeedForward(nn.Module):
    """SwiGLU (https://arxiv.org/abs/2002.05202)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] to the same."""
        fused = torch.cat((self.gate_proj.weight, self.up_proj.weight))
        gate, up = functional.linear(x, fused).chunk(2, -1)
        result: Tensor = self.down_proj(functional.silu(gate) * up)
        return result


class Layer(nn.Module):
    """Attention and feed-forward, each behind a norm and around a residual."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden, shape.norm_eps)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, where: Tensor | None = None) -> Tensor:
        """[batch, length, hidden] to the same, or to [selected, hidden] where the mask is set."""
        mixed = self.self_attn(self.input_layernorm(x), cos, sin, where)
        x = (x if where is None else x[where]) + mixed
        result: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return result


class Llama(nn.Module):
    """The whole model; its parameter names are transformers' less the leading `model.`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.norm_eps)
        cos, sin = rotary(shape, shape.context)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def reset(self, seed: int) -> None:
        """Random weights from a seed; what writes into the residual starts at zero."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    parameter.zero_()
                elif parameter.dim() == 2:
                    scale = 0.02 if "embed" in name else parameter.shape[1] ** -0.5
                    parameter.normal_(0.0, scale, generator=generator)

    def forward(self, ids: Tensor, where: Tensor) -> Tensor:
        """Logits [selected, vocab] at the positions where the mask [batch, length] is set."""
        length = ids.shape[1]
        cos, sin = self.get_buffer("cos")[:length], self.get_buffer("sin")[:length]
        x = self.embed_tokens(ids)
        *layers, last = self.layers
        for layer in layers:
            x = layer(x, cos, sin)
        # What nobody asks for needs no more than its keys and values there.
        x = self.norm(last(x, cos, sin, where))
        return functional.linear(x, self.embed_tokens.weight)
