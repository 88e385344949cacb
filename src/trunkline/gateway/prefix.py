"""Which target has seen how much of a prompt: an approximate radix tree, as chained hashes."""

from __future__ import annotations

# Most blocks that are remembered; each costs about 100 bytes.
_MOST = 1 << 16
# Sizes of the blocks that a prompt is cut into, in bytes, and how many of each: fine in front,
# where prompts part, coarse behind. What is beyond the last one is not looked at.
_CUTS = ((128, 16), (512, 28), (2048, 120))


class PrefixIndex:
    """Remembers for blocks of prompts the targets that they were sent to, the least used first out.

    A block's key is the hash of it and of all before it, so that two prompts share keys as far as
    they are equal, in whole blocks. What a target has evicted since is not known here; a wrong
    guess costs a prefill, nothing else.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        # Key of a block -> bits of the targets that have it; in order of use.
        self._seen: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def matches(self, chain: list[int]) -> list[int]:
        """For each block of a prompt the bits of the targets that have all up to it; as far as
        any has.
        """
        seen = self._seen
        found: list[int] = []
        bits = -1
        for key in chain:
            bits &= seen.get(key, 0)
            if not bits:
                break
            found.append(bits)
        return found

    def add(self, chain: list[int], target: int) -> None:
        """The prompt goes to the target of number `target`."""
        seen = self._seen
        bit = 1 << target
        # From behind: a block goes before those that it follows, so that no chain loses its front.
        for key in reversed(chain):
            seen[key] = seen.pop(key, 0) | bit
        while len(seen) > self._most:
            del seen[next(iter(seen))]


def chain(prompt: bytes) -> list[int]:
    """Keys of the blocks of `prompt`; a rest that fills no block has none."""
    keys: list[int] = []
    key = at = 0
    for size, count in _CUTS:
        for _ in range(count):
            end = at + size
            if end > len(prompt):
                return keys
            key = hash((key, prompt[at:end]))
            keys.append(key)
            at = end
    return keys


def longest(found: list[int], target: int) -> int:
    """Of how many blocks target `target` has all, given `PrefixIndex.matches`."""
    bit = 1 << target
    count = len(found)
    while count and not found[count - 1] & bit:
        count -= 1
    return count
