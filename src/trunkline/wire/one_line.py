"""JSON that no reader takes for several lines.

Clients find the ends of events and of NDJSON by reading lines, and some of them with Python's
`str.splitlines` (httpx's `iter_lines`: the clients of Ollama and of the Hugging Face hub), which
also ends a line at NEL, U+2028 and U+2029. JSON lets these stand in strings as they are. A model
that writes one would break such a client in the middle of the answer, so they are escaped, as Go's
encoder, and so Ollama's server, does with the latter two.
"""

from __future__ import annotations

from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()


class Encoder:
    """`msgspec.json.Encoder`, but for those three characters."""

    def encode(self, value: Any) -> bytes:
        """`value` as JSON, on one line whoever reads it."""
        data = _encoder.encode(value)
        # First bytes of their UTF-8; the second are shared with dashes and quotation marks.
        if b"\xc2\x85" in data:
            data = data.replace(b"\xc2\x85", b"\\u0085")
        if b"\xe2\x80" in data:
            data = data.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
        return data
