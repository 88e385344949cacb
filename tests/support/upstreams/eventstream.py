"""Messages of `application/vnd.amazon.eventstream`, as Bedrock sends them.

docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html (read 2026-11-21). Headers are
strings (type 7) here, in the order in which Bedrock has them.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any


def frame(event: str, payload: Any) -> bytes:
    """One event."""
    return _message(
        {":event-type": event, ":content-type": "application/json", ":message-type": "event"},
        payload,
    )


def exception(kind: str, message: str) -> bytes:
    """An exception within a stream."""
    return _message(
        {
            ":exception-type": kind,
            ":content-type": "application/json",
            ":message-type": "exception",
        },
        {"message": message},
    )


def _message(headers: dict[str, str], payload: Any) -> bytes:
    fields = b""
    for name, value in headers.items():
        fields += struct.pack(">B", len(name)) + name.encode()
        fields += struct.pack(">BH", 7, len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(fields) + len(body), len(fields))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    whole = prelude + fields + body
    return whole + struct.pack(">I", zlib.crc32(whole))
