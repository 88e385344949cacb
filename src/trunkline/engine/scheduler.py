"""Decides what each step computes. Pure policy: no model, no clock of its own, no I/O.

Every step has a time budget. Running rows come first, in order of priority and arrival, then
waiting ones; a prompt goes in pieces between decoding rows. Memory goes by the same order: a row
that finds none takes it from the last one, which is preempted and computed again later. So the
first row always gets on, and nobody can push anybody back and forth.

    plan()    -> StepPlan     make way, continue running rows, admit waiting ones
    update()  <- StepResult   commit what was computed, accept what was sampled, let go of the rest

Nothing is freed while a launched plan refers to it: a row that ends or is preempted keeps its
memory until its last plan has been collected.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import msgspec

from trunkline.core.errors import ErrorInfo, InternalError
from trunkline.engine.admission import Admission, SchedulerLimits
from trunkline.engine.batch import Batch, rank
from trunkline.engine.cost import CostModel, StepBudget
from trunkline.engine.followers import Followers
from trunkline.engine.frames import (
    AddGroup,
    CoreStats,
    GroupFailed,
    GroupStarted,
    PromptScores,
    RowOutput,
)
from trunkline.engine.group import Entry, Group, Row
from trunkline.engine.kv import Match, create_memory
from trunkline.engine.queueing import FairQueue
from trunkline.engine.seam import Capabilities, RowKey, Sampled, StepPlan, StepResult
from trunkline.engine.step import Draft, Flight

__all__ = ["Outcome", "Scheduler", "SchedulerLimits"]

# Chunks are multiples of this where there is a choice.
_GRAIN = 32
# Room left free per row when another one is admitted, so that it is not preempted at once.
_SLACK_TOKENS = 8


@dataclass(slots=True)
class Counters:
    """The part of `CoreStats` that only grows."""

    steps: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    step_seconds: float = 0.0
    sampling_seconds: float = 0.0


class Outcome(msgspec.Struct, frozen=True):
    """What a collected step means for the front: started, prompts, outputs, failed in turn."""

    outputs: tuple[RowOutput, ...] = ()
    started: tuple[GroupStarted, ...] = ()
    failed: tuple[GroupFailed, ...] = ()
    prompts: tuple[PromptScores, ...] = ()


class Scheduler:
    """One per core; called from its one thread. See the module for the cycle."""

    def __init__(
        self,
        capabilities: Capabilities,
        limits: SchedulerLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capabilities = capabilities
        self._limits = limits
        self._clock = clock
        self._admission = Admission(capabilities, limits)
        self._memory = create_memory(capabilities)
        # A hit copies a sequence, and what a row leaves behind is cut back to whole prefixes.
        self._reuse = limits.prefix_cache and capabilities.truncate and capabilities.fork
        self._cost = CostModel()
        self._queue = FairQueue()
        self._followers = Followers(self._queue, limits.min_shared_tokens, capabilities.page)
        self._batch = Batch(
            self._memory, self._queue, self._followers, self._reuse, limits.max_retries
        )
        # Launched and not collected, oldest first.
        self._flights: deque[Flight] = deque()
        self._started: list[GroupStarted] = []
        self._arrivals = 0
        self._step = 0
        self._counters = Counters()

    # Requests.

    @property
    def context(self) -> int:
        """Longest prompt plus output of one row, in tokens."""
        return self._admission.context

    def add(self, request: AddGroup) -> ErrorInfo | None:
        """Queue a group, or say why not. Raises `ValueError` if its number is in use."""
        if request.group in self._batch.groups:
            raise ValueError(f"group {request.group} exists")
        free_seats = self._admission.seats - self._batch.seated
        refusal = self._admission.refuse(request, self._batch.fresh, free_seats)
        if refusal:
            return refusal
        context, eog = self._admission.context, self._capabilities.eog
        group = Group(request, self._arrivals, context, eog, shared=self._reuse)
        self._arrivals += 1
        self._batch.add(group, together=self._capabilities.fork)
        return None

    def abort(self, group: int, row: int = -1) -> None:
        """Stop one row, or all of the group. Unknown ones are ignored."""
        found = self._batch.groups.get(group)
        if found:
            for one in found.rows:
                if not one.over and row in (-1, one.key.row):
                    self._batch.end(one)

    # Steps.

    def plan(self) -> StepPlan | None:
        """The next step; None: nothing can be done before something is collected or added."""
        if len(self._flights) > self._capabilities.run_ahead:
            return None
        self._make_way()
        draft = self._draft()
        self._continue_running(draft)
        self._admit_waiting(draft)
        return self._launch(draft)

    def update(self, result: StepResult) -> Outcome:
        """Take in what came of the oldest launched plan."""
        flight = self._collected(result)
        failed = [self._batch.fail(failure.key, failure.error) for failure in result.failed]
        stale = self._commit(flight)
        prompts = self._batch.tell(result.scored)
        outputs = self._accept(result.sampled, stale)
        failed += self._missing(flight, result, stale)
        self._batch.let_go(flight.rows())
        return self._outcome(outputs, failed, prompts)

    def lost(self, keys: Iterable[RowKey]) -> Outcome:
        """The oldest launched plan did not happen (`StepLost`): rebuild every row in it.

        Its memory operations did, and its samplers did not move. Plans that were launched after it
        have no valid result for these rows, and samplers do not move there either.
        """
        flight = self._flights.popleft()
        lost = {piece.row.key: piece.row for piece in flight.pieces if not piece.stale}
        for key in keys:
            row = self._batch.rows.get(key)
            if row and row.lease and row.leader is None and not row.void:
                lost[key] = row
        for piece in flight.pieces:
            piece.row.inflight -= 1
            for row in piece.samples:
                row.inflight -= row is not piece.row
        failed = [self._batch.void(row) for row in lost.values()]
        self._batch.let_go([*flight.rows(), *lost.values()])
        return self._outcome([], failed)

    # State.

    @property
    def has_work(self) -> bool:
        """True: a plan is under way, or `plan` has or will have something to do."""
        return bool(
            self._batch.seated
            or self._flights
            or len(self._queue)
            or self._batch.closing
            or self._memory.pending
        )

    def stats(self) -> CoreStats:
        """State and counters; `resident_bytes` is the core's to fill in."""
        usage = self._memory.usage()
        return CoreStats(
            running=len(self._batch.running),
            waiting=len(self._queue),
            kv_in_use=usage.tokens_in_use,
            kv_cached=usage.tokens_cached,
            kv_total=usage.tokens_total,
            sequences_in_use=usage.sequences_in_use,
            sequences_cached=usage.sequences_cached,
            preemptions=self._batch.preemptions,
            **asdict(self._counters),
        )

    def check(self) -> None:
        """Raise `AssertionError` unless memory adds up and every row is where it says it is."""
        self._memory.check()
        rows = self._batch.rows.values()
        seated = [row for row in rows if row.lease is not None]
        assert len(seated) == self._batch.seated == self._memory.leases, "a lease without a row"
        assert len(seated) <= self._admission.seats, "more rows than seats"
        running = [row for row in rows if row.running]
        assert self._batch.running == sorted(running, key=rank), "the running rows are out of order"
        assert all(row.lease is not None for row in running), "a running row without memory"
        assert self._batch.leaving == sum(row.leaving for row in rows), (
            "leaving rows are miscounted"
        )
        entries = {id(row.entry): row.entry for row in rows if row.entry is not None}
        assert len(entries) == len(self._queue), "an entry was lost"
        for row in rows:
            placed = row.entry is not None or row.lease is not None or row.inflight
            assert placed, "a row is nowhere"
        if not self.has_work:
            left = len(self._batch.rows) + len(self._batch.groups) + self._batch.fresh
            assert left == 0, "a row or group was forgotten"
            assert self._memory.usage().tokens_in_use == 0, "memory leaked"

    # plan(), in order.

    def _make_way(self) -> None:
        """Preempt rows that are less urgent than the next one that waits, if that lets it in."""
        running = self._batch.running
        if not running or self._batch.leaving:
            return
        candidate = self._candidate(before=running[-1].group.priority)
        if candidate is None or self._fits(*candidate):
            return
        entry, match = candidate
        victims = self._batch.below(entry.group.priority)
        seats = sum(1 + len(row.siblings) for row in victims)
        if not self._fits(entry, match, seats, sum(_held(row) for row in victims)):
            return
        seats = tokens = 0
        for victim in victims:
            match = self._match(entry)
            if self._fits(entry, match, seats, tokens):
                return
            self._batch.preempt(victim)
            if victim.leaving:
                # Its room comes when its plans are collected.
                seats += 1 + len(victim.siblings)
                tokens += _held(victim)

    def _draft(self) -> Draft:
        limits, cost = self._limits, self._cost
        decoding = attended = 0
        for row in self._batch.running:
            if row.decoding and row.left:
                decoding += 1
                attended += self._memory.span(row.planned)
        budget = StepBudget(
            cost,
            limits.max_step_seconds - cost.seconds(0, decoding, attended),
            self._capabilities.max_step_tokens - decoding,
            limits.min_chunk if decoding else limits.min_chunk_alone,
            _GRAIN,
        )
        return Draft(self._step, self._memory, budget, self._capabilities.max_scores)

    def _continue_running(self, draft: Draft) -> None:
        for row in tuple(self._batch.running):
            if row.running:
                if not row.decoding:
                    # The time for prefill goes to more urgent prompts first.
                    self._admit_waiting(draft, row.group.priority)
                self._advance(row, draft)

    def _admit_waiting(self, draft: Draft, before: float = math.inf) -> None:
        """Let in those who wait, of priorities less than `before`, while all they need is there."""
        while self._batch.seated < self._admission.seats:
            candidate = self._candidate(before)
            if candidate is None or not self._fits(*candidate):
                return
            entry, match = candidate
            left = len(entry.tokens) - match.length
            if not draft.budget.chunk(left, self._memory.span(match.length)):
                return
            self._admit(entry, match, draft)

    def _launch(self, draft: Draft) -> StepPlan | None:
        chores = self._batch.closing or self._memory.pending
        if draft.empty and (self._flights or not chores):
            return None
        plan = draft.plan(self._batch.closing, self._memory.take())
        self._batch.closing = []
        self._flights.append(draft.flight)
        self._step += 1
        return plan

    def _advance(self, row: Row, draft: Draft) -> None:
        """Plan the next tokens of `row`, if it has any and there is time and room for them."""
        left = row.left
        if not left:
            return
        count = left
        if not row.decoding:
            count = draft.budget.chunk(left, self._memory.span(row.planned))
            count = draft.scorable(row, count)
        if count and self._make_room(row, row.planned + count):
            draft.add(row, count)

    def _make_room(self, row: Row, end: int) -> bool:
        """Room for positions [0, end) of `row`, at the expense of the last rows if need be."""
        assert row.lease is not None
        while not self._memory.grow(row.lease, end):
            victim = self._batch.running[-1]
            if victim is row or self._batch.leaving:
                return False
            self._batch.preempt(victim)
        return True

    # Waiting rows.

    def _candidate(self, before: float = math.inf) -> tuple[Entry, Match] | None:
        """Whose turn it is, of priorities less than `before`.

        Those that had better wait for a prefix are parked on the way.
        """
        while (entry := self._queue.peek()) is not None and entry.group.priority < before:
            match = self._match(entry)
            # One whose own logits are wanted has nothing to wait for.
            alone = not self._reuse or entry.group.scores
            if alone or not self._followers.hold(entry, match.length):
                return entry, match
        return None

    def _match(self, entry: Entry) -> Match:
        # The logits of the last token are needed: it is computed in any case.
        limit = len(entry.tokens) - 1 if self._reuse else 0
        if entry.group.scoring is not None:
            limit = min(limit, entry.group.scoring.reusable)
        return self._memory.match(entry.group.root, entry.tokens, limit)

    def _fits(self, entry: Entry, match: Match, seats: int = 0, tokens: int = 0) -> bool:
        """Whether `entry` can be let in, given `seats` and `tokens` besides those to be had.

        What rows at least as urgent still need for their prompts is theirs.
        """
        count = len(entry.rows)
        if self._batch.seated - seats + count > self._admission.seats:
            return False
        if self._batch.seated == seats:
            # Alone, every row fits: `Admission` saw to that.
            return True
        slack = max(self._memory.page, _SLACK_TOKENS)
        need = self._memory.missing(match, len(entry.tokens)) + slack * count
        for row in self._batch.running:
            if row.group.priority <= entry.group.priority:
                assert row.lease is not None
                need += max(row.length - row.lease.held, 0) + slack
        return need <= self._memory.available(match) + tokens

    def _admit(self, entry: Entry, match: Match, draft: Draft) -> None:
        row = self._batch.admit(entry, match)
        for one in entry.rows:
            draft.open(one)
        if not entry.group.started:
            self._start(entry.group, match)
        self._advance(row, draft)

    def _start(self, group: Group, match: Match) -> None:
        group.started = True
        self._batch.fresh -= 1
        waited = max(0.0, self._clock() - group.arrived)
        self._started.append(GroupStarted(group.number, match.length, waited))
        self._counters.prefix_queries += len(group.prompt)
        self._counters.prefix_hits += match.length
        self._queue.charge(group.tenant, len(group.prompt) - match.length, 0)

    # update(), in order.

    def _collected(self, result: StepResult) -> Flight:
        flight = self._flights.popleft()
        if flight.step != result.step:
            raise ValueError(f"step {result.step} was collected, {flight.step} is due")
        if flight.pieces:
            # What scoring takes would be taken for the price of prefill.
            if not flight.scores:
                self._cost.observe(
                    flight.prefill,
                    flight.decoding,
                    flight.attended,
                    result.seconds,
                )
            self._admission.worked(result.seconds, self._batch.finished)
        counters = self._counters
        counters.steps += 1
        counters.prefill_tokens += flight.prefill
        counters.step_seconds += result.seconds
        counters.sampling_seconds += result.sampling_seconds
        return flight

    def _commit(self, flight: Flight) -> set[RowKey]:
        """What was computed is in memory now; returns the rows whose samples are stale."""
        stale: set[RowKey] = set()
        for piece in flight.pieces:
            row = piece.row
            row.inflight -= 1
            for sampling in piece.samples:
                sampling.inflight -= sampling is not row
                if piece.stale:
                    stale.add(sampling.key)
                else:
                    sampling.ahead -= 1
            if not piece.stale and not row.void:
                row.computed = piece.end
                if row.prefilling:
                    self._commit_prefill(row)
        return stale

    def _commit_prefill(self, row: Row) -> None:
        lease = row.lease
        assert lease is not None
        done = row.computed == row.length
        if self._reuse or (done and row.siblings):
            reached = self._memory.insert(lease, row.known, row.computed, row.inflight > 0)
            self._followers.reached(row, reached)
        if done:
            row.prefilling = False
            self._followers.end(row)
            if not row.leaving:
                self._batch.fork(row)

    def _accept(self, sampled: Iterable[Sampled], stale: set[RowKey]) -> list[RowOutput]:
        outputs: list[RowOutput] = []
        for sample in sampled:
            row = self._batch.rows.get(sample.key)
            if row is None or row.over or sample.key in stale:
                continue
            group, index, token = row.group, row.output, sample.token
            row.append(token)
            row.retries = 0
            finish: str | None = None
            if token in group.ends and index >= group.least:
                finish = "stop"
            elif row.length >= group.limit:
                finish = "length"
            outputs.append(
                RowOutput(
                    group.number,
                    row.key.row,
                    row.epoch,
                    index,
                    token,
                    sample.logprob,
                    sample.top,
                    finish,
                )
            )
            self._queue.charge(group.tenant, 0, 1)
            if finish:
                self._batch.end(row)
        self._counters.decode_tokens += len(outputs)
        return outputs

    def _missing(
        self, flight: Flight, result: StepResult, stale: set[RowKey]
    ) -> list[GroupFailed | None]:
        """Fail rows that should have been sampled and were not: they would hang for ever."""
        if len(result.sampled) == flight.samples:
            return []
        due = {row.key: row for piece in flight.pieces for row in piece.samples}
        for sample in result.sampled:
            due.pop(sample.key, None)
        error = InternalError("The executor returned no token for this request. Try again.").info()
        return [
            self._batch.fail(row.key, error)
            for row in due.values()
            if not row.over and row.key not in stale
        ]

    def _outcome(
        self,
        outputs: list[RowOutput],
        failed: list[GroupFailed | None],
        prompts: tuple[PromptScores, ...] = (),
    ) -> Outcome:
        if self._limits.max_cached_tokens is not None:
            self._memory.shrink(self._limits.max_cached_tokens)
        started, self._started = tuple(self._started), []
        return Outcome(tuple(outputs), started, tuple(one for one in failed if one), prompts)


def _held(row: Row) -> int:
    return row.lease.held if row.lease else 0
