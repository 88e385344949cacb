"""Grammars in the core's loop: when a group may start, what its rows may say, when they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from trunkline.core.errors import ErrorInfo, QueueFull
from trunkline.engine.frames import AddGroup, GroupFailed, RowOutput
from trunkline.engine.scheduler import Outcome
from trunkline.engine.seam import Masks, RowKey, StepPlan
from trunkline.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from trunkline.engine.grammar.masker import Masker

# Groups that may wait for their grammars to be compiled.
_MAX_PARKED = 256


class GrammarGate:
    """Stands between the core's loop and the scheduler for groups that have a grammar.

    A group is parked until its grammar is compiled, so that no step ever waits for one. The
    scheduler knows nothing of grammars: a row that its grammar ends is aborted there.
    """

    def __init__(self, tokenizer: Callable[[], Tokenizer], max_rows: int) -> None:
        self._tokenizer = tokenizer
        self._max_rows = max_rows
        # Made with the first grammar: it prepares the vocabulary.
        self._masker: Masker | None = None
        self._parked: dict[int, AddGroup] = {}
        # Rows of each group that has a grammar and is not over.
        self._rows: dict[int, int] = {}

    @property
    def parked(self) -> int:
        """Groups that wait for their grammar."""
        return len(self._parked)

    def park(self, group: AddGroup) -> ErrorInfo | None:
        """Take a group that has a grammar, or say why not."""
        if len(self._parked) >= _MAX_PARKED:
            return QueueFull("too many grammars are being compiled", retry_after=2.0).info()
        assert group.grammar is not None
        if self._masker is None:
            # With llguidance, 0.06 s: most cores never see a grammar, and all of them start.
            from trunkline.engine.grammar.masker import Masker

            self._masker = Masker(self._tokenizer(), max_rows=self._max_rows)
        for row in range(group.n):
            self._masker.open(RowKey(group.group, row), group.grammar)
        self._rows[group.group] = group.n
        self._parked[group.group] = group
        return None

    def ready(self) -> list[AddGroup]:
        """Groups that wait no longer: they go to the scheduler now."""
        masker = self._masker
        if masker is None or not self._parked:
            return []
        ready = [group for number, group in self._parked.items() if masker.ready(RowKey(number, 0))]
        for group in ready:
            del self._parked[group.group]
        return ready

    def forget(self, group: int, row: int = -1) -> None:
        """One row (or with -1 all) of a group is over. Unknown ones are ignored."""
        if self._masker is None or group not in self._rows:
            return
        for one in range(self._rows[group]) if row < 0 else (row,):
            self._masker.close(RowKey(group, one))
        if row < 0:
            del self._rows[group]
            self._parked.pop(group, None)

    def masks(self, plan: StepPlan) -> Masks:
        """What the rows of `plan` may say; every earlier plan has been collected."""
        if self._masker is None or not self._rows:
            return None
        return self._masker.masks([key for chunk in plan.chunks for key in chunk.sample])

    def follow(self, outcome: Outcome, abort: Callable[[int, int], None]) -> Outcome:
        """Go on with what was sampled; `abort(group, row)` ends a row in the scheduler.

        A row whose grammar is complete gets its finish reason here; one that cannot follow it
        fails with its group.
        """
        if not self._rows:
            return outcome
        failed = list(outcome.failed)
        outputs = [self._followed(output, failed, abort) for output in outcome.outputs]
        for failure in failed:
            self.forget(failure.group)
        gone = {failure.group for failure in failed}
        kept = tuple(output for output in outputs if output.group not in gone)
        prompts = tuple(one for one in outcome.prompts if one.group not in gone)
        return Outcome(kept, outcome.started, tuple(failed), prompts)

    def _followed(
        self, output: RowOutput, failed: list[GroupFailed], abort: Callable[[int, int], None]
    ) -> RowOutput:
        masker, key = self._masker, RowKey(output.group, output.row)
        if masker is None or output.group not in self._rows or output.token < 0:
            return output
        error = masker.accept(key, output.token)
        if error is not None and output.finish is None:
            failed.append(GroupFailed(output.group, error))
            abort(output.group, -1)
        elif output.finish is None and masker.ended(key):
            abort(output.group, output.row)
            output = msgspec.structs.replace(output, finish="stop")
        if output.finish is not None:
            masker.close(key)
        return output
