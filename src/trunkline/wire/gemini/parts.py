"""The parts of an answer, and what becomes of those that are no text.

Shapes: `Part`, `Blob`, `FileData`, `ExecutableCode`, `CodeExecutionResult` in google-genai 3.4's
types.py. The core and most dialects know text alone. Code that the provider ran, and what came of
it, become fenced blocks; an image becomes a line that says that there was one. (google-genai's own
`.text` logs a warning and leaves both out.)
"""

from __future__ import annotations

import msgspec
from msgspec import Raw


class FunctionCall(msgspec.Struct):
    """A call of a tool."""

    name: str = ""
    args: Raw = Raw(b"{}")
    id: str | None = None


class _Blob(msgspec.Struct, rename="camel"):
    mime_type: str = "data"
    # Base64.
    data: str = ""


class _File(msgspec.Struct, rename="camel"):
    mime_type: str = "data"
    file_uri: str = ""


class _Code(msgspec.Struct):
    code: str | None = None
    language: str | None = None


class _Result(msgspec.Struct):
    outcome: str | None = None
    output: str | None = None


class Part(msgspec.Struct, rename="camel"):
    """One part; one of its fields says what it is."""

    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    inline_data: _Blob | None = None
    file_data: _File | None = None
    executable_code: _Code | None = None
    code_execution_result: _Result | None = None


def thing(part: Part) -> str:
    """A line in place of what cannot be passed on; "" where a part is nothing of the kind."""
    if part.inline_data is not None:
        # Of four characters each three bytes, less what fills up.
        data = part.inline_data.data
        size = len(data) * 3 // 4 - data[-2:].count("=")
        return f"\n[{part.inline_data.mime_type}, {size} bytes, not passed on]\n"
    if part.file_data is not None:
        return f"\n[{part.file_data.mime_type}: {part.file_data.file_uri}]\n"
    return ""


def words(part: Part) -> str:
    """The text of code that was run, or of its result; "" where a part is neither."""
    code, result = part.executable_code, part.code_execution_result
    if code is not None:
        language = (code.language or "").lower().replace("language_unspecified", "")
        return _fenced(code.code or "", language)
    if result is not None:
        return _fenced(result.output or result.outcome or "", "")
    return ""


def _fenced(text: str, language: str) -> str:
    """A fence is longer than any within."""
    fence = "```"
    while fence in text:
        fence += "`"
    body = text.rstrip("\n")
    return f"\n{fence}{language}\n{body}\n{fence}\n"
