"""Who is admitted next: priority, then fair shares between tenants, then order of arrival.

Fair shares are the virtual token counters of VTC (arXiv:2401.00588): each tenant's counter grows by
what it is served, a prompt token by 1 and an output token by 2, and the lowest goes first. A tenant
that comes back to the queue is lifted to the lowest counter among those who wait, so that idleness
earns no credit; what it owes stays.
"""

from __future__ import annotations

import heapq

from trunkline.engine.group import Entry

_PROMPT_WEIGHT, _OUTPUT_WEIGHT = 1.0, 2.0
# Counters of idle tenants that are kept; the lowest go first, they owe least.
_MOST_IDLE = 4096

# (rank, tie breaker, entry)
_Line = list[tuple[tuple[int, int, int], int, Entry]]


class FairQueue:
    """Waiting entries. Those that are gone or parked leave their line when they head it."""

    def __init__(self) -> None:
        # priority -> tenant -> heap
        self._lines: dict[int, dict[str, _Line]] = {}
        self._served: dict[str, float] = {}
        # Entries of each tenant, parked ones included.
        self._entries: dict[str, int] = {}
        self._floor = 0.0
        self._size = 0
        self._pushed = 0

    def __len__(self) -> int:
        """Entries that wait, parked ones included."""
        return self._size

    def push(self, entry: Entry) -> None:
        """Add an entry; its rows point to it from now on."""
        tenant = entry.group.tenant
        if tenant not in self._entries:
            self._lift(tenant)
        self._entries[tenant] = self._entries.get(tenant, 0) + 1
        self._size += 1
        entry.waiting = True
        for row in entry.rows:
            row.entry = entry
        self._line_up(entry)

    def peek(self) -> Entry | None:
        """The entry whose turn it is."""
        while self._lines:
            priority = min(self._lines)
            tenants = self._lines[priority]
            best: tuple[tuple[float, tuple[int, int, int]], Entry] | None = None
            for tenant, line in list(tenants.items()):
                entry = self._head(line)
                if entry is None:
                    del tenants[tenant]
                    continue
                turn = (self._served[tenant], entry.rank)
                if best is None or turn < best[0]:
                    best = turn, entry
            if best is not None:
                return best[1]
            del self._lines[priority]
        return None

    def remove(self, entry: Entry) -> None:
        """Its rows are admitted, or gone."""
        tenant = entry.group.tenant
        entry.waiting = False
        for row in entry.rows:
            row.entry = None
        self._size -= 1
        if self._size == 0:
            self._floor = max(self._floor, self._served[tenant])
        self._entries[tenant] -= 1
        if not self._entries[tenant]:
            del self._entries[tenant]

    def park(self, entry: Entry) -> None:
        """Take `entry` out of its line until `unpark`; it still counts as waiting."""
        entry.parked = True

    def unpark(self, entry: Entry) -> None:
        """Put `entry` back, if it still waits."""
        entry.parked = False
        if entry.waiting:
            self._line_up(entry)

    def charge(self, tenant: str, prompt: int, output: int) -> None:
        """Note what `tenant` was served, in tokens."""
        served = self._served.get(tenant, self._floor)
        self._served[tenant] = served + _PROMPT_WEIGHT * prompt + _OUTPUT_WEIGHT * output

    def _line_up(self, entry: Entry) -> None:
        tenants = self._lines.setdefault(entry.group.priority, {})
        line = tenants.setdefault(entry.group.tenant, [])
        self._pushed += 1
        heapq.heappush(line, (entry.rank, self._pushed, entry))

    def _head(self, line: _Line) -> Entry | None:
        while line:
            entry = line[0][2]
            if entry.waiting and not entry.parked:
                return entry
            heapq.heappop(line)
        return None

    def _lift(self, tenant: str) -> None:
        waiting = [self._served[other] for other in self._entries]
        self._floor = max(self._floor, min(waiting, default=self._floor))
        self._served[tenant] = max(self._served.get(tenant, 0.0), self._floor)
        if len(self._served) > _MOST_IDLE + len(self._entries) + 1:
            idle = [name for name in self._served if name not in self._entries and name != tenant]
            idle.sort(key=self._served.__getitem__)
            for name in idle[: len(idle) // 2]:
                del self._served[name]
