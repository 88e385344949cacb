"""What checks say about a server's health."""

from __future__ import annotations

from trunkline.backends.http.fetch import Response
from trunkline.backends.kind import HealthCheck
from trunkline.core.errors import TrunklineError, UpstreamTimeout
from trunkline.core.types import Health

# What servers answer that have no such page, or do not show it: proxies that let ``/v1`` through
# alone, an engine that only looks like one of its kind.
_HIDDEN = frozenset((401, 403, 404, 405, 501))
# The same of a list of models. 401 means that the key is wrong, and requests would fail.
_UNLISTED = _HIDDEN - {401}

# Checks in a row that time out until a server counts as unwell: a busy one misses some.
_PATIENCE = 3


class Judge:
    """Keeps the state over checks.

    An answer decides at once; where the page is hidden, that of the list of models, which bills
    nothing either. Silence decides only after several checks, and not while answers to
    requests go on arriving: an engine that computes may be too busy for a check, and a restart
    would make that worse. Whoever was silent and is heard of again is what it was before.
    """

    def __init__(self, check: HealthCheck, state: Health) -> None:
        self._check = check
        self._silent = 0
        self.health = state
        # As it was before a silence that decided.
        self._before = state

    def hides(self, response: Response) -> bool:
        """Whether this answer to the check says only that there is no such page to be seen."""
        status = response.head.status
        return status in _HIDDEN and status not in self._check.good | self._check.starting

    def answered(self, response: Response) -> Health:
        """The server answered the check."""
        self._silent = 0
        status = response.head.status
        told = f"{self._check.path} answers {status}"
        if status in self._check.good:
            self.health = Health("ready")
        elif status in self._check.starting:
            self.health = Health("starting", told)
        else:
            self.health = Health("failed", told)
        return self.health

    def listed(self, response: Response, path: str, listed: Response) -> Health:
        """The check's page is hidden, as `response` says; the list of models is at `path`."""
        self._silent = 0
        status = listed.head.status
        told = f"{self._check.path} answers {response.head.status}"
        if path != self._check.path:
            told += f", {path} {status}"
        if listed.ok:
            self.health = Health("ready", f"{told}: no more is known of its health")
        elif status in self._check.starting:
            self.health = Health("starting", told)
        elif status in _UNLISTED:
            self.health = Health("ready", f"{told}: it is there, no more is known of its health")
        else:
            self.health = Health("failed", told)
        return self.health

    def missed(self, error: TrunklineError, *, busy: bool, heard: bool) -> Health:
        """The check failed.

        `busy`: requests are under way; `heard`: some got data since the check before.
        """
        if not isinstance(error, UpstreamTimeout):
            self._silent = 0
            self.health = Health("failed", error.message)
        elif heard:
            if self._silent >= _PATIENCE:
                self.health = self._before
            self._silent = 0
        else:
            self._silent += 1
            if self._silent == _PATIENCE:
                self._before = self.health
            if self._silent >= _PATIENCE:
                self.health = Health("stalled" if busy else "failed", error.message)
        return self.health
