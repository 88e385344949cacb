"""The rows that the scheduler holds, and their ways into the batch and out of it.

    add -> queue -> admit -> running -> end -> gone
                      ^        |
                      +- preempt, void (in the queue again, output kept)

A row that ends or is preempted while launched plans refer to it stops at once, but keeps its memory
until the last of them is collected: whoever collects calls `let_go`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

from trunkline.core.errors import ErrorInfo, InternalError
from trunkline.engine.followers import Followers
from trunkline.engine.frames import GroupFailed, PromptScores
from trunkline.engine.group import Entry, Group, Row
from trunkline.engine.kv import Match, Memory
from trunkline.engine.queueing import FairQueue
from trunkline.engine.seam import RowKey, Scored


class Batch:
    """Groups, rows, their places and their memory."""

    def __init__(
        self, memory: Memory, queue: FairQueue, followers: Followers, reuse: bool, max_retries: int
    ) -> None:
        self._memory = memory
        self._queue = queue
        self._followers = followers
        # What rows compute is kept for others.
        self._reuse = reuse
        self._max_retries = max_retries
        self.groups: dict[int, Group] = {}
        self.rows: dict[RowKey, Row] = {}
        # Rows that are planned step by step, by rank.
        self.running: list[Row] = []
        # Rows with a lease: running, reserved for a fork, or on their way out.
        self.seated = 0
        # Rows that will be preempted once their plans are collected.
        self.leaving = 0
        # Groups that have never run, those that are gone, and preemptions so far.
        self.fresh = 0
        self.finished = 0
        self.preemptions = 0
        # Samplers that the next plan closes.
        self.closing: list[RowKey] = []

    def add(self, group: Group, together: bool) -> None:
        """Queue the rows of `group`, as one entry or each alone."""
        self.fresh += 1
        self.groups[group.number] = group
        self.rows.update((row.key, row) for row in group.rows)
        for rows in [group.rows] if together else [[row] for row in group.rows]:
            self._queue.push(Entry(list(rows)))

    def admit(self, entry: Entry, match: Match) -> Row:
        """Give the rows of `entry` their memory; returns the one that prefills."""
        self._queue.remove(entry)
        row, *siblings = entry.rows
        leases = self._memory.admit(match, len(entry.rows))
        self.seated += len(leases)
        for one, lease in zip(entry.rows, leases, strict=True):
            one.lease = lease
        row.siblings = siblings
        for sibling in siblings:
            sibling.leader = row
        row.computed = row.planned = match.length
        row.prefilling = True
        self._run(row)
        if self._reuse:
            self._followers.begin(row)
        return row

    def fork(self, row: Row) -> None:
        """The rows that waited for this one's prefill get its memory."""
        assert row.lease is not None
        siblings, row.siblings = row.siblings, []
        for sibling in siblings:
            assert sibling.lease is not None
            sibling.leader = None
            if self._memory.fork(row.lease, sibling.lease, row.length):
                sibling.computed = sibling.planned = row.length
                self._run(sibling)
            else:
                self.preempt(sibling)
        if row.over:
            self._drop(row)

    def _run(self, row: Row) -> None:
        row.running = True
        insort(self.running, row, key=rank)

    def _halt(self, row: Row) -> None:
        if row.running:
            row.running = False
            self.running.remove(row)
            self._followers.end(row)

    def preempt(self, row: Row) -> None:
        """Take the memory of `row` and put it back in the queue, when no plan refers to it."""
        self._halt(row)
        if not row.leaving:
            row.leaving = True
            self.leaving += 1
            self.preemptions += 1
        self.let_go([row])

    def void(self, row: Row) -> GroupFailed | None:
        """The memory of `row` is lost; what plans under way say of it is stale."""
        row.void = True
        row.epoch += 1
        for one in (row, *row.siblings):
            one.ahead = 0
        if row.over and not row.siblings:
            return None
        row.retries += 1
        if row.retries > self._max_retries:
            error = InternalError(
                f"The step of this request failed {row.retries} times in a row. Try again."
            )
            return self.fail(row.key, error.info())
        self.preempt(row)
        return None

    def fail(self, key: RowKey, error: ErrorInfo) -> GroupFailed | None:
        """End the group of a row that cannot go on; the others do not notice."""
        row = self.rows.get(key)
        if row is None or (row.over and not row.siblings):
            return None
        row.void = True
        for one in row.group.rows:
            if not one.over:
                self.end(one)
        return GroupFailed(row.group.number, error)

    def end(self, row: Row) -> None:
        """`row` is over: no output from here on."""
        group, entry, leader = row.group, row.entry, row.leader
        row.over = True
        group.alive -= 1
        if not group.alive:
            del self.groups[group.number]
            self.fresh -= not group.started
            self.finished += 1
        if entry is not None:
            if len(entry.rows) == 1:
                self._queue.remove(entry)
            entry.rows.remove(row)
            row.entry = None
        if leader is not None:
            leader.siblings.remove(row)
            row.leader = None
            if leader.over and not leader.siblings:
                self._drop(leader)
        if not row.siblings:
            self._drop(row)

    def tell(self, scored: Iterable[Scored]) -> tuple[PromptScores, ...]:
        """Scores of rows that were not set back since, of groups that somebody waits for."""
        told: list[PromptScores] = []
        for one in scored:
            row = self.rows.get(one.key)
            if row is None or row.epoch != one.epoch or one.key.group not in self.groups:
                continue
            assert row.group.scoring is not None, "scores that nobody asked for"
            news = row.group.scoring.tell(one)
            if news is not None:
                told.append(news)
        return tuple(told)

    def _drop(self, row: Row) -> None:
        self._halt(row)
        self.let_go([row])

    def let_go(self, rows: Iterable[Row]) -> None:
        """Free what belongs to rows that are over or leaving and in no plan under way."""
        for row in rows:
            if row.inflight or not (row.over or row.leaving):
                continue
            if row.leaving:
                self._requeue(row)
            if row.over and not row.siblings:
                self._give_back(row)
                if row.opened:
                    self.closing.append(row.key)
                    row.opened = False
                self.rows.pop(row.key, None)

    def _requeue(self, row: Row) -> None:
        """Put `row`, and the rows that were to fork from it, back in the queue."""
        self.leaving -= 1
        unit = [row, *row.siblings]
        for one in unit:
            self._give_back(one)
            one.rewind()
        alive = [one for one in unit if not one.over]
        forked = any(one.output for one in alive)
        for rows in [[one] for one in alive] if forked else [alive] if alive else []:
            self._queue.push(Entry(rows))

    def _give_back(self, row: Row) -> None:
        lease, row.lease = row.lease, None
        if lease is None:
            return
        self.seated -= 1
        keep = self._reuse and not row.void
        if keep and lease.node is not None:
            # An aborted row may have computed a token that it never accepted.
            computed = min(row.computed, row.length)
            self._memory.insert(lease, row.known, computed, busy=False)
        self._memory.release(lease, keep)

    def below(self, priority: int) -> list[Row]:
        """Running rows that are less urgent than `priority`, the last one first."""
        last = len(self.running)
        while last and self.running[last - 1].group.priority > priority:
            last -= 1
        return self.running[last:][::-1]


def rank(row: Row) -> tuple[int, int, int]:
    """Sort key of `Batch.running`."""
    return row.rank
