"""What can be wrong with a command line itself."""

from __future__ import annotations


class UsageError(Exception):
    """An argument or an environment variable is wrong; the message names it and what is right."""
