"""Keeps a prefix from being prefilled twice.

A waiting entry that shares a prefix, not yet in the tree, with a row that is prefilling it now is
parked until that row has come so far, or is gone.
"""

from __future__ import annotations

from collections.abc import Hashable

from trunkline.engine.group import Entry, Row
from trunkline.engine.kv import common_prefix
from trunkline.engine.queueing import FairQueue
from trunkline.engine.seam import Int32Array


class Followers:
    """Rows that prefill now, and who waits for which of them."""

    def __init__(self, queue: FairQueue, least: int, page: int) -> None:
        self._queue = queue
        # A shared prefix of fewer tokens is not worth waiting for.
        self._least = least
        self._page = page
        # By root and first `least` tokens: who shares less shares nothing here.
        self._leaders: dict[Hashable, list[Row]] = {}

    def begin(self, row: Row) -> None:
        """`row` starts to prefill."""
        if row.length - row.planned > self._least:
            self._leaders.setdefault(self._head(row.group.root, row.known), []).append(row)

    def hold(self, entry: Entry, cached: int) -> bool:
        """Park `entry` if a row at least as urgent is computing more of it than is `cached`."""
        tokens = entry.tokens
        best, leader = 0, None
        for row in self._leaders.get(self._head(entry.group.root, tokens), ()):
            if row.group.priority <= entry.group.priority:
                shared = min(common_prefix(row.known, tokens), len(tokens) - 1)
                if shared > best:
                    best, leader = shared, row
        best = best // self._page * self._page
        if leader is None or best - cached < self._least:
            return False
        leader.followers.append((best, entry))
        self._queue.park(entry)
        return True

    def reached(self, row: Row, tokens: int) -> None:
        """The first `tokens` tokens of `row` are in the tree."""
        if row.followers:
            waiting = row.followers
            row.followers = [follower for follower in waiting if follower[0] > tokens]
            for needed, entry in waiting:
                if needed <= tokens:
                    self._queue.unpark(entry)

    def end(self, row: Row) -> None:
        """`row` has done its prefill, or is gone."""
        head = self._head(row.group.root, row.known)
        leaders = self._leaders.get(head)
        if leaders and row in leaders:
            leaders.remove(row)
            if not leaders:
                del self._leaders[head]
        waiting, row.followers = row.followers, []
        for _, entry in waiting:
            self._queue.unpark(entry)

    def _head(self, root: Hashable, tokens: Int32Array) -> Hashable:
        return root, tokens[: self._least].tobytes()
