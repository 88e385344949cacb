"""The training loop: Muon for the matrices, AdamW for the rest."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from caboose.batches import Feeder, MicroBatch, Plan
from caboose.model import Llama


@dataclass(frozen=True)
class Settings:
    """Everything that decides what the trained weights are, besides the corpus."""

    seed: int
    steps: int
    # Workers of one CPU thread each; they decide the order of additions.
    threads: int = 2
    # 1: from nothing; 2: from the first round's weights, at a lower rate.
    round: int = 1
    # Share of the steps that warm up, and at the end cool down to zero.
    warm_up: float = 0.02
    cool_down: float = 0.7
    matrix_rate: float = 0.015
    vector_rate: float = 0.003
    # Until this share of the steps the text only teaches to copy, then until that mostly to add.
    first_until: float = 0.05
    sums_until: float = 0.22
    # Until the first share all, and from the second on a quarter, are single short questions.
    short_from: float = 0.4
    short_until: float = 0.65
    # From this share of the steps on, every n-th step also sees a long sequence.
    long_from: float = 0.6
    long_every: int = 10

    def rate(self, step: int) -> float:
        """The learning rate's factor, 0 to 1: a trapezoid."""
        up = (step + 1) / max(1.0, self.warm_up * self.steps)
        down = (self.steps - step) / max(1.0, self.cool_down * self.steps)
        return min(1.0, up, down)

    def shares(self, step: int) -> dict[str, float]:
        """How often each stream of the corpus is drawn at a step."""
        if self.round == 2:
            return {"second": 1.0}
        done = step / self.steps
        if done < self.first_until:
            return {"first": 1.0}
        if done < self.sums_until:
            return {"sums": 0.85, "first": 0.05, "short": 0.1}
        left = (self.short_until - done) / (self.short_until - self.short_from)
        short = 0.25 + 0.75 * min(1.0, max(0.0, left))
        return {"short": short, "main": 1 - short}

    def is_long(self, step: int) -> bool:
        """Whether this step also sees a long sequence."""
        late = step >= self.long_from * self.steps
        return self.round == 1 and late and step % self.long_every == 0


def second_round(seed: int, steps: int, threads: int) -> Settings:
    """Settings of the second round."""
    return Settings(
        seed, steps, threads, round=2, cool_down=0.95, matrix_rate=0.009, vector_rate=0.0018
    )


def orthogonalize(stack: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: five Newton-Schulz steps.

    Takes and gives [matrices, rows, columns] with no more rows than columns. Coefficients from
    Muon (https://kellerjordan.github.io/posts/muon/).
    """
    x = stack / (stack.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-7)
    for _ in range(5):
        gram = torch.bmm(x, x.mT)
        square = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, square, x, beta=3.4445)
    return x


def _wide(matrix: Tensor) -> Tensor:
    """The matrix, or its transpose where it has more rows than columns."""
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix


# Matrices of one shape that are orthogonalized by one call.
_STACK = 5


class Muon:
    """Momentum, orthogonalized: a step of equal size in every direction of a matrix."""

    def __init__(
        self, parameters: Iterable[Tensor], pool: ThreadPoolExecutor, momentum: float = 0.95
    ) -> None:
        self._pool = pool
        self._momentum = momentum
        alike: dict[torch.Size, list[Tensor]] = {}
        for parameter in parameters:
            alike.setdefault(_wide(parameter).shape, []).append(parameter)
        # What takes longest comes first, so that no worker waits long for the other at the end.
        self._stacks = [
            same[i : i + _STACK]
            for _, same in sorted(alike.items(), key=lambda item: item[0], reverse=True)
            for i in range(0, len(same), _STACK)
        ]
        self._buffers = [[torch.zeros_like(p) for p in stack] for stack in self._stacks]

    def step(self, rate: float) -> None:
        """One update with Nesterov momentum; clears the gradients."""
        list(self._pool.map(lambda *work: self._update(*work, rate), self._stacks, self._buffers))

    @torch.no_grad()
    def _update(self, parameters: list[Tensor], buffers: list[Tensor], rate: float) -> None:
        """One stack's part of a step, on one thread."""
        torch.set_num_threads(1)
        looking: list[Tensor] = []
        for parameter, buffer in zip(parameters, buffers, strict=True):
            gradient = parameter.grad
            assert gradient is not None
            buffer.lerp_(gradient, 1 - self._momentum)
            looking.append(_wide(gradient.lerp(buffer, self._momentum)))
        for parameter, update in zip(parameters, orthogonalize(torch.stack(looking)), strict=True):
            rows, columns = parameter.shape
            scale = max(1.0, rows / columns) ** 0.5
            back = update.T if rows > columns else update
            parameter.mul_(1 - rate * 0.01).add_(back, alpha=-rate * scale)
            parameter.grad = None


def _gradients(model: Llama, batches: list[MicroBatch], total: float) -> tuple[float, list[Tensor]]:
    """One worker's share: the summed loss over `total`, and its gradients."""
    torch.set_num_threads(1)
    parameters = list(model.parameters())
    loss_sum = 0.0
    sums: list[Tensor] = []
    for batch in batches:
        weights = batch.weights[:, 1:]
        where = weights > 0
        logits = model(batch.ids[:, :-1], where)
        losses = functional.cross_entropy(logits, batch.ids[:, 1:][where], reduction="none")
        loss = (losses * weights[where]).sum() / total
        gradients = torch.autograd.grad(loss, parameters)
        loss_sum += float(loss.detach())
        if sums:
            torch._foreach_add_(sums, gradients)
        else:
            sums = list(gradients)
    return loss_sum, sums


def _deal(batches: list[MicroBatch], workers: int) -> list[list[MicroBatch]]:
    """The micro-batches in `workers` hands of about equal work, always the same way."""
    hands: list[list[MicroBatch]] = [[] for _ in range(workers)]
    load = [0.0] * workers
    for batch in sorted(batches, key=_work, reverse=True):
        lightest = load.index(min(load))
        hands[lightest].append(batch)
        load[lightest] += _work(batch)
    return [hand for hand in hands if hand]


def _work(batch: MicroBatch) -> float:
    rows, length = batch.ids.shape
    return rows * length * (1 + length / 2500)


def _accumulate(model: Llama, batches: list[MicroBatch], pool: ThreadPoolExecutor) -> float:
    """Sets the step's gradients; gives its mean weighted loss in nats.

    Each worker computes with one thread of its own: on small tensors that is faster than two
    threads that meet at every operation, and does not collapse when the machine is busy. The
    workers' gradients are added in a fixed order.
    """
    total = sum(float(batch.weights[:, 1:].sum()) for batch in batches)
    hands = _deal(batches, pool._max_workers)
    results = list(pool.map(lambda hand: _gradients(model, hand, total), hands))
    sums = results[0][1]
    for _, gradients in results[1:]:
        torch._foreach_add_(sums, gradients)
    for parameter, gradient in zip(model.parameters(), sums, strict=True):
        parameter.grad = gradient
    return sum(loss for loss, _ in results)


@dataclass(frozen=True)
class Figures:
    """What a training run took and where it ended."""

    tokens: int
    # Examples drawn, by stream of the corpus.
    drawn: dict[str, int]
    seconds: float
    processor_seconds: float
    # Weighted mean loss in nats over the last steps.
    loss: float

    def plus(self, later: Figures) -> Figures:
        """Both rounds together."""
        drawn = {name: self.drawn.get(name, 0) + n for name, n in later.drawn.items()}
        return Figures(
            self.tokens + later.tokens,
            drawn,
            self.seconds + later.seconds,
            self.processor_seconds + later.processor_seconds,
            later.loss,
        )


def train(
    model: Llama,
    tokenizer: Tokenizer,
    settings: Settings,
    plan: Plan,
    checkpoint: Callable[[int], None] | None = None,
) -> Figures:
    """Trains in place; the second round goes on with the weights that are there."""
    if settings.round == 1:
        model.reset(settings.seed)
    feeder = Feeder(tokenizer, settings.seed, plan, settings.round)
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    pool = ThreadPoolExecutor(settings.threads)
    muon = Muon(matrices, pool)
    adam = torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.95), weight_decay=0.0)
    started, started_processor = time.monotonic(), time.process_time()
    smooth = 0.0
    for step in range(settings.steps):
        factor = settings.rate(step)
        loss = _accumulate(
            model, feeder.step(settings.shares(step), long=settings.is_long(step)), pool
        )
        muon.step(settings.matrix_rate * factor)
        for group in adam.param_groups:
            group["lr"] = settings.vector_rate * factor
        adam.step()
        adam.zero_grad(set_to_none=True)
        smooth = loss if step == 0 else 0.95 * smooth + 0.05 * loss
        if step % 20 == 19 or step + 1 == settings.steps:
            _report(step + 1, settings.steps, smooth, feeder.tokens, time.monotonic() - started)
        if checkpoint is not None and step % 200 == 199:
            checkpoint(step + 1)
    pool.shutdown()
    seconds = time.monotonic() - started
    processor = time.process_time() - started_processor
    return Figures(feeder.tokens, feeder.drawn, seconds, processor, smooth)


def _report(step: int, steps: int, loss: float, tokens: int, seconds: float) -> None:
    left = seconds / step * (steps - step)
    print(
        f"step {step:5}/{steps}  loss {loss:.4f}  {tokens / 1e6:6.2f} M tokens  "
        f"{tokens / seconds:6.0f} tokens/s  {seconds / 60:5.1f} min, {left / 60:5.1f} min left",
        file=sys.stderr,
        flush=True,
    )
