"""Ends of an answer that depend on its lines, as editors ask for when code is filled in.

Source: `process_token` in tools/server/server-context.cpp of llama.cpp b11549, `n_indent` and
`t_max_predict_ms`.
"""

from __future__ import annotations

from trunkline.core.types import LineLimits


class LineWatch:
    """Watches the lines of one row."""

    def __init__(self, limits: LineLimits) -> None:
        self._limits = limits
        # Spaces and tabs so far at the beginning of a line after the first; None elsewhere.
        self._indent: int | None = None

    def feed(self, text: str, seconds: float) -> tuple[str, bool]:
        """More text, so many seconds after the first token: what to show, and whether it ends.

        A line with too small an indent is cut behind that; a blank one has none.
        """
        for at, character in enumerate(text if self._limits.indent > 0 else ""):
            if self._indent is not None:
                if character in " \t":
                    self._indent += 1
                    continue
                if self._indent < self._limits.indent:
                    return text[:at], True
            self._indent = 0 if character == "\n" else None
        late = 0 < self._limits.seconds < seconds
        return text, late and "\n" in text
