"""An executor that says what a rule names: tests of everything after sampling, with no model.

Its rules are a JSON file:

    {"context": 131072,
     "rules": [{"contains": "weather", "text": "<tool_call>...", "ms_per_token": 5},
               {"contains": "die", "action": "crash", "after": 3}],
     "default": {"text": "Hello."}}

The first rule whose `contains` occurs in the rendered prompt wins. Tokens are bytes (see
`text.byte_tokenizer`), so every text is split at every byte.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from trunkline.core.errors import InternalError, InvalidRequest
from trunkline.engine.config import EngineConfig
from trunkline.engine.seam import (
    Capabilities,
    Chunk,
    Masks,
    OpenRow,
    RowFailed,
    RowKey,
    Sampled,
    Scored,
    StepPlan,
    StepResult,
    Ticket,
)
from trunkline.text.byte_tokenizer import ByteTokenizer

Words = npt.NDArray[np.uint32]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to answer, how fast, and what goes wrong."""

    # Raw model output; with a list, row i of a group says text i modulo the length.
    text: str | list[str] = ""
    # Substring of the rendered prompt; "" matches all.
    contains: str = ""
    # Milliseconds from token to token.
    ms_per_token: Annotated[float, Meta(ge=0)] = 0.0
    # Milliseconds that each prompt token costs.
    ms_per_prompt_token: Annotated[float, Meta(ge=0)] = 0.0
    # crash: the process dies; hang: the step never ends; fail: the row fails alone;
    # endless: the text is repeated for ever.
    action: Literal["crash", "hang", "fail", "endless"] | None = None
    # Tokens before `action` happens.
    after: Annotated[int, Meta(ge=0)] = 0


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of rules."""

    rules: tuple[Rule, ...] = ()
    default: Rule = Rule(text="Hello from the scripted executor.")
    # Tokens of prompt plus output, and of all rows together.
    context: Annotated[int, Meta(ge=16)] = 131_072
    kv_tokens: Annotated[int, Meta(ge=16)] = 4_194_304


class _Row(msgspec.Struct):
    rule: Rule
    output: bytes
    sent: int = 0


class ScriptedExecutor:
    """Implements `engine.seam.Executor` without computing anything."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tokenizer = ByteTokenizer()
        self._end = min(self._tokenizer.eog)
        self._rows: dict[RowKey, _Row] = {}
        self._plans: list[tuple[StepPlan, float]] = []
        self._masks: Masks = None
        self.capabilities = Capabilities(
            memory="cells",
            page=1,
            kv_tokens=script.kv_tokens,
            sequences=1024,
            context=script.context,
            max_step_tokens=8192,
            max_outputs=512,
            max_scores=1024,
            eog=self._tokenizer.eog,
            vocab_size=self._tokenizer.vocab_size,
        )

    def launch(self, plan: StepPlan) -> Ticket:
        """Note the plan; memory operations have nothing to act on."""
        for row in plan.open:
            self._rows[row.key] = self._open(row)
        for key in plan.close:
            del self._rows[key]
        self._plans.append((plan, time.monotonic()))
        return Ticket(plan.step)

    def sample(self, ticket: Ticket, masks: Masks) -> None:
        """What a mask forbids is replaced by the lowest token that it allows."""
        self._masks = masks

    def collect(self, ticket: Ticket) -> StepResult:
        """Wait as long as the slowest row's rule says, then give each row its next byte."""
        plan, begun = self._plans.pop(0)
        pause = max((self._milliseconds(plan)), default=0.0) / 1000
        time.sleep(max(0.0, begun + pause - time.monotonic()))
        sampled: list[Sampled] = []
        failed: list[RowFailed] = []
        masks, self._masks = self._masks, None
        keys = [key for chunk in plan.chunks for key in chunk.sample]
        for index, key in enumerate(keys):
            self._next(key, None if masks is None else masks[index], sampled, failed)
        seconds = time.monotonic() - begun
        scored = tuple(_scored(chunk) for chunk in plan.chunks if chunk.scoring is not None)
        return StepResult(plan.step, tuple(sampled), seconds, tuple(failed), scored=scored)

    def tokenizer(self) -> ByteTokenizer:
        """Bytes."""
        return self._tokenizer

    def close(self) -> None:
        """Nothing is held."""

    def _open(self, row: OpenRow) -> _Row:
        prompt = self._tokenizer.decode(row.prompt.tolist())
        rule = next((r for r in self._script.rules if r.contains in prompt), self._script.default)
        text = rule.text
        if isinstance(text, list):
            text = text[row.key.row % len(text)] if text else ""
        return _Row(rule, text.encode())

    def _milliseconds(self, plan: StepPlan) -> list[float]:
        costs = []
        for chunk in plan.chunks:
            row = self._rows.get(chunk.key)
            if row is not None and chunk.sample and len(chunk.tokens) == 1:
                costs.append(row.rule.ms_per_token)
            elif row is not None:
                costs.append(row.rule.ms_per_prompt_token * len(chunk.tokens))
        return costs

    def _next(
        self, key: RowKey, mask: Words | None, sampled: list[Sampled], failed: list[RowFailed]
    ) -> None:
        row = self._rows[key]
        action = row.rule.action if row.sent >= row.rule.after else None
        if action == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "hang":
            time.sleep(1e6)
        elif action == "fail":
            error = InternalError("the scripted rule says that this row fails")
            failed.append(RowFailed(key, error.info()))
            return
        index = row.sent % len(row.output) if action == "endless" and row.output else row.sent
        token = row.output[index] if index < len(row.output) else self._end
        if mask is not None and not mask[token // 32] >> (token % 32) & 1:
            token = int(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))[0])
        row.sent += 1
        sampled.append(Sampled(key, token, 0.0, ((token, 0.0),)))


def _scored(chunk: Chunk) -> Scored:
    """Every prompt token was the most probable one, and token 0, 1, 2, ... those behind it."""
    assert chunk.scoring is not None
    targets, top = chunk.scoring.targets, chunk.scoring.top
    count = len(targets)
    places = np.arange(top, dtype=np.int32)
    ids = np.tile((places - 1) % ByteTokenizer.vocab_size, (count, 1))
    ids[:, :1] = targets[:, None]
    falling = np.where(places < ByteTokenizer.vocab_size, -places, -np.inf).astype(np.float32)
    logprobs = np.tile(falling, (count, 1))
    start = chunk.start + chunk.scoring.first + 1
    zeros, ones = np.zeros(count, np.float32), np.ones(count, np.int32)
    return Scored(chunk.key, chunk.epoch, start, zeros, ones, ids, logprobs)


def load(config: EngineConfig) -> ScriptedExecutor:
    """Read the rules at `config.model`. Raises `InvalidRequest` when they are malformed."""
    try:
        script = msgspec.json.decode(Path(config.model).read_bytes(), type=Script)
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidRequest(f"scripted rules {config.model}: {error}") from error
    return ScriptedExecutor(script)
