"""Prompts for filling in: what comes before and behind a gap, between the model's own tokens.

Order and lengths: `format_prompt_infill` in tools/server/server-common.cpp of llama.cpp b11549;
the pattern for repositories is that of Qwen2.5-Coder (arXiv:2409.12186).

    [rep]project [sep]name text ... [sep]name  [bos][pre]prefix prompt [suf]suffix [mid]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from trunkline.core.errors import Unsupported
from trunkline.core.types import InfillInput, SourceFile
from trunkline.text.tokenizer import Tokenizer

# Tokens for prefix, suffix and what marks them: llama.cpp's n_batch, unless the context is small;
# then a quarter of that is left to the answer.
_WINDOW = 2048
# The marks themselves, and an answer of a few tokens.
_MARKS = 16
# Names that llama.cpp gives, as long as clients cannot.
_PROJECT, _FILE = "myproject\n", "filename\n"
# Between files, where the model has no token for that.
_SNIPPET = "\n\n--- snippet ---\n\n"


def infill_prompt(
    tokenizer: Tokenizer, wanted: InfillInput, context: int, max_tokens: int | None
) -> list[int]:
    """The prompt, cut to a context of so many tokens (0 = not known) where the request says so.

    Raises `Unsupported` where the model cannot fill in, in llama.cpp's words.
    """
    fim = tokenizer.fim
    named = {"prefix": fim.prefix, "suffix": fim.suffix, "middle": fim.middle}
    missing = "".join(f"{name} token is missing. " for name, one in named.items() if one is None)
    if fim.prefix is None or fim.suffix is None or fim.middle is None:
        raise Unsupported(f"Infill is not supported by this model: {missing}")
    prefix, suffix = _tokens(tokenizer, wanted.prefix), _tokens(tokenizer, wanted.suffix)
    prompt = tokenizer.encode(wanted.prompt, add_special=False, parse_special=True)
    extra = _extra(tokenizer, wanted.extra) if wanted.repository else []
    if wanted.fit and context:
        room = _room(context, len(prompt), max_tokens)
        prefix, suffix = _last(prefix, room.prefix), suffix[: room.suffix]
        extra = _last(extra, room.extra)
    begin = _beginning(tokenizer)
    return [
        *(*extra, *begin, fim.prefix, *prefix, *prompt),
        *(fim.suffix, *suffix, fim.middle),
    ]


class _Room(NamedTuple):
    """Most tokens of each."""

    prefix: int
    suffix: int
    extra: int


def _room(context: int, prompt: int, max_tokens: int | None) -> _Room:
    """Three quarters of the window for the prefix, one for the suffix; the rest of the context for
    other files, less twice what is to be generated, or a quarter where that is not told.
    """
    window = min(_WINDOW, context - context // 4)
    answer = context // 4 if max_tokens is None else max(2 * max_tokens, _MARKS)
    return _Room(
        3 * (window // 4), max(0, window // 4 - 2 - prompt), max(0, context - window - answer)
    )


def _extra(tokenizer: Tokenizer, files: tuple[SourceFile, ...]) -> list[int]:
    """What comes before the file with the gap."""
    fim = tokenizer.fim
    tokens: list[int] = []
    if fim.repository is not None:
        tokens += [fim.repository, *_plain(tokenizer, _PROJECT)]
    for file in files:
        if fim.separator is not None:
            tokens += [fim.separator, *_plain(tokenizer, f"{file.name}\n")]
        else:
            tokens += _plain(tokenizer, _SNIPPET)
        tokens += _plain(tokenizer, file.text)
    if fim.separator is not None:
        tokens += [fim.separator, *_plain(tokenizer, _FILE)]
    return tokens


def _tokens(tokenizer: Tokenizer, parts: Iterable[str | tuple[int, ...]]) -> list[int]:
    tokens: list[int] = []
    for part in parts:
        tokens += _plain(tokenizer, part) if isinstance(part, str) else part
    return tokens


def _last(tokens: list[int], count: int) -> list[int]:
    return tokens[max(0, len(tokens) - count) :]


def _plain(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special=False, parse_special=False)


def _beginning(tokenizer: Tokenizer) -> list[int]:
    """BOS, where the model wants it."""
    framed = tokenizer.encode("", add_special=True, parse_special=False)
    return framed[:1] if framed and framed[0] == tokenizer.bos else []
