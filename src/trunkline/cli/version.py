"""``trunkline version``."""

from __future__ import annotations

from collections.abc import Sequence

from trunkline import __version__
from trunkline.cli.options import new_parser


def run(argv: Sequence[str]) -> int:
    """Print the version."""
    new_parser("version", "Say which version this is.").parse_args(argv)
    print(f"trunkline {__version__}")
    return 0
