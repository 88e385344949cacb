"""What checks say about a server's health."""

from __future__ import annotations

from trunkline.backends.http.fetch import Response
from trunkline.backends.kind import HealthCheck
from trunkline.core.errors import TrunklineError, UpstreamTimeout
from trunkline.core.types import Health

# Checks in a row that time out until a server counts as unwell: a busy one misses some.
_PATIENCE = 3


class Judge:
    """Keeps the state over checks.

    An answer decides at once. Silence decides only after several checks, and not while answers to
    requests go on arriving: an engine that computes may be too busy for a check, and a restart
    would make that worse.
    """

    def __init__(self, check: HealthCheck, state: Health) -> None:
        self._check = check
        self._silent = 0
        self.health = state

    def answered(self, response: Response) -> Health:
        """The server answered the check."""
        self._silent = 0
        status = response.head.status
        if status in self._check.good:
            self.health = Health("ready")
        elif status in self._check.starting:
            self.health = Health("starting", f"{self._check.path} answers {status}")
        else:
            self.health = Health("failed", f"{self._check.path} answers {status}")
        return self.health

    def missed(self, error: TrunklineError, *, busy: bool, heard: bool) -> Health:
        """The check failed. `busy`: requests are under way; `heard`: some of them got data."""
        if not isinstance(error, UpstreamTimeout):
            self._silent = 0
            self.health = Health("failed", error.message)
        elif heard:
            self._silent = 0
        else:
            self._silent += 1
            if self._silent >= _PATIENCE:
                self.health = Health("stalled" if busy else "failed", error.message)
        return self.health
