"""Thought signatures, carried in the ids of tool calls.

Gemini gives a signature with a call and wants it back with the call in the next turn
(ai.google.dev/gemini-api/docs/thought-signatures, read 2026-11-21). No client of another dialect
has a field for it, but every one sends a call's id back as it was.
"""

from __future__ import annotations

import base64
import binascii

# For calls that Gemini did not make itself; that page names it under "FAQs".
SKIP = "skip_thought_signature_validator"

_MARK = "_ts_"
# An id stays a header's length; what is longer is left out and SKIP stands in.
_MOST = 16 << 10


def call_id(request_id: str, index: int, signature: str | None) -> str:
    """An id for a call, from which `signature_of` has its signature again."""
    bare = f"call_{request_id}_{index}"
    if not signature or len(signature) > _MOST:
        return bare
    # As it came, less what ids must not hold.
    return f"{bare}{_MARK}{signature.translate(_URL_SAFE).rstrip('=')}"


def signature_of(identifier: str) -> str | None:
    """The signature in an id, or None."""
    _, mark, packed = identifier.rpartition(_MARK)
    if not mark:
        return None
    padded = packed + "=" * (-len(packed) % 4)
    try:
        raw = base64.b64decode(padded.translate(_PLAIN), validate=True)
    except binascii.Error:
        return None
    return base64.b64encode(raw).decode()


_URL_SAFE = str.maketrans("+/", "-_")
_PLAIN = str.maketrans("-_", "+/")
