"""Who may be loaded, and who has to go for it: a decision from the state, without side effects.

Models are loaded in the order in which their first waiting request came, and a load serves all
that wait for it. Room is made by unloading what nobody uses, least recently used first, and by
taking no newcomers where models are in use and had their turn: at least as long as loading took, so
that a busy server does not spend its time on loading. A later one may be loaded first only into
memory that those before it do not need.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from trunkline.residency.slot import Slot

# Seconds that a model in use serves newcomers at least while others wait.
SHORTEST_TURN = 1.0


class Decision(msgspec.Struct):
    """What to do now."""

    load: list[Slot] = []
    unload: list[Slot] = []
    # Loaded ones that take no newcomers.
    closed: set[Slot] = set()
    # When a turn ends and the decision may be another.
    again_at: float = math.inf


class _Room:
    """Memory as the decision goes on."""

    def __init__(self, slots: Iterable[Slot], budget: float) -> None:
        held = [slot for slot in slots if slot.holds]
        self.free = budget - sum(slot.memory for slot in held)
        # Will be free: of what is unloaded now, or closed.
        self.coming: float = sum(slot.memory for slot in held if slot.phase == "unloading")


def turn_ends(slot: Slot) -> float:
    """When a loaded one in use may be closed to newcomers."""
    return slot.loaded_at + max(SHORTEST_TURN, slot.load_seconds)


def decide(slots: Sequence[Slot], budget: float, now: float) -> Decision:
    """What to load, unload and close."""
    decision = Decision()
    room = _Room(slots, budget)
    victims = sorted(_victims(slots, now), key=lambda slot: (slot.users > 0, slot.idle_since))
    for slot in sorted((slot for slot in slots if slot.wanted), key=Slot.oldest):
        need = 0 if slot.pinned else slot.memory
        if need <= room.free and slot.phase == "cold":
            room.free -= need
            decision.load.append(slot)
            continue
        missing = need - room.free - room.coming
        if missing > 0:
            chosen = _choose(victims, missing)
            if chosen is None:
                # The end of a turn or of a load changes that; nobody may take memory before it.
                decision.again_at = _next_turn(slots, now)
                break
            for victim in chosen:
                victims.remove(victim)
                room.coming += victim.memory
                (decision.closed.add if victim.users else decision.unload.append)(victim)
        # First what is not there yet, so that others can use what is.
        rest = max(0.0, need - room.coming)
        room.coming -= need - rest
        room.free -= rest
    return decision


def _victims(slots: Sequence[Slot], now: float) -> Iterable[Slot]:
    for slot in slots:
        if (
            slot.phase == "loaded"
            and not slot.pinned
            and (not slot.users or turn_ends(slot) <= now)
        ):
            yield slot


def _choose(victims: Sequence[Slot], missing: float) -> list[Slot] | None:
    """As few as suffice, the first ones preferred; None: all together do not."""
    chosen: list[Slot] = []
    total = 0.0
    for victim in victims:
        if total >= missing:
            break
        chosen.append(victim)
        total += victim.memory
    if total < missing:
        return None
    for victim in tuple(chosen):
        if total - victim.memory >= missing:
            chosen.remove(victim)
            total -= victim.memory
    return chosen


def _next_turn(slots: Sequence[Slot], now: float) -> float:
    ends = (turn_ends(slot) for slot in slots if slot.phase == "loaded" and slot.users)
    return min((end for end in ends if end > now), default=math.inf)
