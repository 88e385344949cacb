"""Drives a scheduler and a fake executor as the core does, and checks what every user relies on."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from tests.engine.fakes import FakeCells, alone, fake, prompt_scores
from trunkline.core.errors import ErrorInfo
from trunkline.core.types import SamplingParams
from trunkline.engine.frames import AddGroup, GroupStarted, RowOutput
from trunkline.engine.scheduler import Outcome, Scheduler, SchedulerLimits
from trunkline.engine.seam import Capabilities, OpenRow, RowKey, StepLost, StepPlan, Ticket


class Harness:
    """One core: scheduler, executor, and everything that came out of it."""

    def __init__(self, capabilities: Capabilities, limits: SchedulerLimits | None = None) -> None:
        self.executor = fake(capabilities)
        self.scheduler = Scheduler(capabilities, limits or SchedulerLimits(), lambda: 0.0)
        self.requests: dict[int, AddGroup] = {}
        self.outputs: dict[RowKey, list[RowOutput]] = {}
        self.started: dict[int, GroupStarted] = {}
        # Scores of each prompt, in the order in which they came.
        self.scores: dict[int, list[float]] = {}
        # In the order in which they happened.
        self.order: list[int] = []
        self.failed: dict[int, ErrorInfo] = {}
        self.aborted: set[RowKey] = set()
        self.steps = 0
        # Groups that have had a place, and whether the order of that is checked: where requests
        # wait for each other's prefixes, others rightly overtake them.
        self.entered: set[int] = set()
        self.strict = limits is not None and limits.min_shared_tokens > capabilities.context
        # A step raised: nothing after it means anything.
        self.broken = False
        self._tickets: deque[Ticket] = deque()

    def add(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        n: int = 1,
        priority: int = 0,
        tenant: str = "",
        root: bytes = b"",
        prompt_logprobs: int | None = None,
        prompt_start: int = 0,
    ) -> int | ErrorInfo:
        """Queue a request; returns its number."""
        number = len(self.requests)
        data = np.array(prompt, "<i4").tobytes()
        request = AddGroup(
            number,
            data,
            n,
            params,
            priority,
            tenant,
            root,
            0.0,
            prompt_logprobs=prompt_logprobs,
            prompt_start=prompt_start,
        )
        refusal = self.scheduler.add(request)
        if refusal:
            return refusal
        self.requests[number] = request
        return number

    def abort(self, group: int, row: int = -1) -> None:
        """Abort, and expect nothing from there on."""
        self.scheduler.abort(group, row)
        count = self.requests[group].n if group in self.requests else 0
        rows = range(count) if row < 0 else [row]
        for index in rows:
            key = RowKey(group, index)
            if key not in self.finished:
                self.aborted.add(key)

    def step(self) -> bool:
        """Launch what can be launched, collect one plan. False: there was nothing to do."""
        assert not self.broken, "a step failed before"
        self.broken = True
        worked = self._step()
        self.broken = False
        return worked

    def _step(self) -> bool:
        launched = False
        while (plan := self.scheduler.plan()) is not None:
            self._check_order(plan)
            self._tickets.append(self.executor.launch(plan))
            launched = True
            if len(self._tickets) > self.executor.capabilities.run_ahead:
                break
        if not self._tickets:
            assert not launched
            assert not self.scheduler.has_work, "work, but nothing to do"
            return False
        if self.executor.capabilities.run_ahead == 0:
            assert self.scheduler.plan() is None
        try:
            outcome = self.scheduler.update(self.executor.collect(self._tickets.popleft()))
        except StepLost as lost:
            outcome = self.scheduler.lost(lost.keys)
        self.steps += 1
        self._note(outcome)
        self.scheduler.check()
        return True

    def run(self, most: int = 3000) -> None:
        """Until idle; then everything is accounted for."""
        for _ in range(most):
            if not self.step():
                break
        else:
            raise AssertionError(f"not done after {most} steps")
        self.scheduler.check()
        stats = self.scheduler.stats()
        assert (stats.running, stats.waiting, stats.kv_in_use) == (0, 0, 0)
        assert not self.executor.open, "samplers left open"
        if isinstance(self.executor, FakeCells):
            assert self.executor.used() == stats.kv_cached, "cells and accounting differ"
            donors = sum(1 for held in self.executor.sequences.values() if held)
            assert donors == stats.sequences_cached
        for number, request in self.requests.items():
            for index in range(request.n):
                self.verify(RowKey(number, index))
            self.verify_scores(number, request)

    def verify(self, key: RowKey) -> None:
        """The row is complete and says what it says alone, or stopped for a known reason."""
        got = [output.token for output in self.outputs.get(key, [])]
        if key in self.aborted or key.group in self.failed:
            if key in self.executor.opened:
                assert self.alone(key)[: len(got)] == got
            return
        assert key in self.finished, f"{key} never ended"
        assert got == self.alone(key)
        reason = self.outputs[key][-1].finish
        params = self.requests[key.group].params
        ends = set(params.stop_token_ids)
        ends |= set() if params.ignore_eos else set(self.executor.capabilities.eog)
        stopped = got[-1] in ends and len(got) > params.min_tokens
        assert reason == ("stop" if stopped else "length")

    def verify_scores(self, number: int, request: AddGroup) -> None:
        """Every prompt token has its score, or those that came before the end are right."""
        got = self.scores.get(number, [])
        if request.prompt_logprobs is None:
            assert not got, "scores that nobody asked for"
            return
        prompt = np.frombuffer(request.prompt, "<i4").tolist()
        right = prompt_scores(prompt, request.prompt_start)
        keys = {RowKey(number, index) for index in range(request.n)}
        if keys <= self.aborted or number in self.failed:
            right = right[: len(got)]
        assert got == right

    def alone(self, key: RowKey) -> list[int]:
        """The row's output without any other request."""
        capabilities = self.executor.capabilities
        opened: OpenRow = self.executor.opened[key]
        return alone(opened, capabilities.eog, self.scheduler.context)

    @property
    def finished(self) -> set[RowKey]:
        """Rows that ended by themselves."""
        return {key for key, got in self.outputs.items() if got[-1].finish}

    def _check_order(self, plan: StepPlan) -> None:
        """Nobody overtakes a more urgent group, or an earlier one of its own tenant."""
        opened = dict.fromkeys(row.key.group for row in plan.open)
        for group in opened:
            if group in self.entered:
                continue
            self.entered.add(group)
            if not self.strict:
                continue
            request = self.requests[group]
            for number, other in self.requests.items():
                gone = number in self.entered or RowKey(number, 0) in self.aborted
                if gone or number in self.failed:
                    continue
                assert other.priority >= request.priority, f"{group} overtook {number}"
                same = (other.priority, other.tenant) == (request.priority, request.tenant)
                assert not (same and number < group), f"{group} overtook {number}"

    def _note(self, outcome: Outcome) -> None:
        for started in outcome.started:
            assert started.group not in self.started, "started twice"
            self.started[started.group] = started
            self.order.append(started.group)
        for told in outcome.prompts:
            request = self.requests[told.group]
            got_scores = self.scores.setdefault(told.group, [])
            assert told.group in self.started
            assert told.start == request.prompt_start + 1 + len(got_scores), "lost or sent twice"
            assert RowKey(told.group, 0) not in self.outputs, "scores behind output"
            values = np.frombuffer(told.logprobs, "<f4").tolist()
            got_scores += values
            prompt = np.frombuffer(request.prompt, "<i4")
            ranks = np.frombuffer(told.ranks, "<i4")
            assert (ranks == prompt[told.start : told.start + len(values)] + 1).all()
            assert len(told.top_ids) == 4 * len(values) * (request.prompt_logprobs or 0)
        for output in outcome.outputs:
            key = RowKey(output.group, output.row)
            got = self.outputs.setdefault(key, [])
            assert output.group in self.started
            assert key not in self.aborted, "output after abort"
            assert output.group not in self.failed, "output after failure"
            assert not got or not got[-1].finish, "output after the end"
            assert output.sequence == len(got), "a token was lost or sent twice"
            got.append(output)
        for failed in outcome.failed:
            assert failed.group not in self.failed
            self.failed[failed.group] = failed.error
