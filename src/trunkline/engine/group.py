"""What the scheduler knows of a request: a group, its rows, and its place in the queue."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from trunkline.core.types import SamplingParams
from trunkline.engine.frames import AddGroup
from trunkline.engine.kv import Lease
from trunkline.engine.scoring import PromptScoring
from trunkline.engine.seam import Int32Array, OpenRow, RowKey

# Weyl step of the golden ratio: spreads the seeds of a group's rows.
_SEED_STEP = 0x9E3779B9


class Group:
    """n rows with one prompt."""

    def __init__(
        self, request: AddGroup, serial: int, context: int, eog: frozenset[int], shared: bool
    ) -> None:
        """`serial`: place in the order of arrival. `shared`: it may use what others computed."""
        params = request.params
        self.number = request.group
        self.serial = serial
        self.priority = request.priority
        self.tenant = request.tenant
        self.arrived = request.arrived
        self.params: SamplingParams = params
        self.prompt: Int32Array = np.frombuffer(request.prompt, "<i4").astype(np.int32, copy=False)
        self.root: Hashable = request.root if shared else (request.group,)
        self.started = False
        # Log probabilities of the prompt, where they are wanted.
        self.scoring: PromptScoring | None = None
        if request.prompt_logprobs is not None:
            self.scoring = PromptScoring(
                self.number, self.prompt, request.prompt_start, request.prompt_logprobs
            )
        # A row ends at this many tokens, prompt included ...
        wanted = context if params.max_tokens is None else len(self.prompt) + params.max_tokens
        self.limit = min(context, wanted)
        # ... or after one of these, but not before `least` output tokens.
        self.ends = frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else eog)
        self.least = params.min_tokens
        self.rows = [Row(self, index) for index in range(request.n)]
        # Rows that have not ended.
        self.alive = request.n

    @property
    def scores(self) -> bool:
        """True: log probabilities of its prompt are still to be told."""
        return self.scoring is not None and not self.scoring.done


class Row:
    """One answer.

    tokens[:computed] are in memory for certain, tokens[:planned] when the launched plans are done;
    `ahead` tokens at the end are sampled by launched plans and not known yet, so that the row has
    length + ahead - planned tokens left to compute: one while it decodes.
    """

    __slots__ = (
        "ahead",
        "computed",
        "entry",
        "epoch",
        "followers",
        "group",
        "inflight",
        "key",
        "leader",
        "lease",
        "leaving",
        "length",
        "opened",
        "over",
        "planned",
        "prefilling",
        "rank",
        "retries",
        "running",
        "siblings",
        "tokens",
        "void",
    )

    def __init__(self, group: Group, index: int) -> None:
        self.group = group
        self.key = RowKey(group.number, index)
        # The order of service: earlier ones get memory first and give it up last.
        self.rank = (group.priority, group.serial, index)
        self.epoch = 0
        # Prompt and output; has spare room at its end.
        self.tokens: Int32Array = group.prompt
        self.length = len(group.prompt)
        self.computed = 0
        self.planned = 0
        self.ahead = 0
        # Launched plans that compute or sample this row.
        self.inflight = 0
        self.lease: Lease | None = None
        # In the queue: where.
        self.entry: Entry | None = None
        # The sampler is open behind the seam.
        self.opened = False
        # Planned step by step.
        self.running = False
        # Computing what was known when it was admitted.
        self.prefilling = False
        # Ended or aborted; memory goes when no plan refers to it.
        self.over = False
        # To be preempted when no plan refers to it.
        self.leaving = False
        # Its memory was lost.
        self.void = False
        # Lost steps since the last good one.
        self.retries = 0
        # Rows that fork from this one when its prefill is done, and the way back.
        self.siblings: list[Row] = []
        self.leader: Row | None = None
        # Entries that wait for a prefix that this row prefills: (tokens needed, entry).
        self.followers: list[tuple[int, Entry]] = []

    @property
    def output(self) -> int:
        """Output tokens so far."""
        return self.length - len(self.group.prompt)

    @property
    def known(self) -> Int32Array:
        """Prompt and output; a view."""
        return self.tokens[: self.length]

    @property
    def decoding(self) -> bool:
        """True: its next token follows one that it sampled since it was admitted."""
        return self.ahead > 0 or not self.prefilling

    @property
    def left(self) -> int:
        """Tokens that a plan can compute for it now."""
        known = self.length + self.ahead
        if known >= self.group.limit or (self.ahead and self.siblings):
            # It ends with the token under way; or its forks come first.
            return 0
        return known - self.planned

    def rewind(self) -> None:
        """Nothing of it is in memory any more."""
        self.epoch += 1
        self.computed = self.planned = self.ahead = 0
        self.prefilling = self.leaving = self.void = False
        self.leader = None
        self.siblings = []

    def append(self, token: int) -> None:
        """Add an output token."""
        if self.length == len(self.tokens):
            grown = np.empty(min(2 * self.length, self.group.limit) + 1, np.int32)
            grown[: self.length] = self.tokens
            self.tokens = grown
        self.tokens[self.length] = token
        self.length += 1

    def sampler(self) -> OpenRow:
        """What the executor needs to sample this row. The first row has the request's own seed."""
        seed = (self.group.params.seed or 0) + self.key.row * _SEED_STEP
        return OpenRow(self.key, self.group.params, seed & 0xFFFFFFFF, self.group.prompt)


class Entry:
    """Rows that wait to be admitted together: a new group, or one that lost its place."""

    __slots__ = ("group", "parked", "rank", "rows", "waiting")

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.group = rows[0].group
        self.rank = rows[0].rank
        # In the queue.
        self.waiting = False
        # In the queue, but behind another row that computes its prefix.
        self.parked = False

    @property
    def tokens(self) -> Int32Array:
        """What has to be in memory before they decode."""
        return self.rows[0].known
