"""From the tokenizer files of a model's folder to a GGUF vocabulary."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from trunkline.core.errors import InvalidRequest
from trunkline.formats.gguf_writer import Value

# tokenizer.ggml.token_type; those of sentencepiece are the same.
_NORMAL, _CONTROL, _USER, _UNUSED = 1, 3, 4, 5
# Score of what never comes out of text.
_WORST = -1000.0
_MAX_FILE = 256 * 1024 * 1024


class _Words(NamedTuple):
    """A vocabulary. `scores` may be empty; `more` are other keys."""

    tokens: list[str]
    types: list[int]
    scores: list[float]
    more: dict[str, Value]


def read_json(path: Path) -> dict[str, Any]:
    """An object in a file; empty where there is no such file. Raises `InvalidRequest`, OSError."""
    if not path.exists():
        return {}
    if path.stat().st_size > _MAX_FILE:
        raise InvalidRequest(f"{path} is too large")
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"{path}: {error}") from error
    return found


def vocabulary(folder: Path, size: int) -> dict[str, Value]:
    """The keys below `tokenizer.`; the embedding has `size` rows.

    Raises `InvalidRequest`, OSError.
    """
    settings = read_json(folder / "tokenizer_config.json")
    whole = read_json(folder / "tokenizer.json")
    if (folder / "tokenizer.model").exists():
        data = (folder / "tokenizer.model").read_bytes()
        words, names = _pieces(data, settings, whole, size)
    elif whole:
        words, names = _byte_pairs(whole, size)
    else:
        raise InvalidRequest(f"{folder} has neither tokenizer.json nor tokenizer.model")
    _check_fits(len(words.tokens), size)
    missing = size - len(words.tokens)
    padding = [f"[PAD{number}]" for number in range(len(words.tokens), size)]
    result: dict[str, Value] = {
        **words.more,
        "tokenizer.ggml.tokens": words.tokens + padding,
        "tokenizer.ggml.token_type": words.types + [_UNUSED] * missing,
    }
    if words.scores:
        result["tokenizer.ggml.scores"] = words.scores + [_WORST] * missing
    result.update(_special(folder, settings, whole, names))
    return result


def _check_fits(words: int, size: int) -> None:
    """Before there is a list of them: an id may be any number."""
    if words > size:
        raise InvalidRequest(f"{words} words for {size} rows of the embedding")


def _byte_pairs(whole: Mapping[str, Any], size: int) -> tuple[_Words, dict[str, int]]:
    """tokenizer.json of a byte-level BPE."""
    model = whole.get("model", {})
    if model.get("type", "BPE") != "BPE" or model.get("byte_fallback"):
        raise InvalidRequest("a tokenizer of this kind cannot be converted without tokenizer.model")
    names: dict[str, int] = dict(model["vocab"])
    types = dict.fromkeys(names.values(), _NORMAL)
    for one in whole.get("added_tokens", ()):
        names[one["content"]] = one["id"]
        types[one["id"]] = _CONTROL if one["special"] else _USER
    texts = {number: text for text, number in names.items()}
    count = max(texts) + 1
    _check_fits(count, size)
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    tokens = [texts.get(number, f"[PAD{number}]") for number in range(count)]
    more: dict[str, Value] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _pre_tokenizer(whole.get("pre_tokenizer") or {}),
        "tokenizer.ggml.merges": merges,
    }
    return _Words(tokens, [types.get(n, _UNUSED) for n in range(count)], [], more), names


def _pre_tokenizer(spec: Mapping[str, Any]) -> str:
    """llama.cpp's name for the rule by which text is split first. Raises `InvalidRequest`."""
    steps = spec.get("pretokenizers") or [spec]
    text = json.dumps([one.get("pattern") for one in steps if one.get("type") == "Split"])
    digits = any(one.get("type") == "Digits" for one in steps)
    regex = any(one.get("type") == "ByteLevel" and one.get("use_regex", True) for one in steps)
    if "\\\\p{Lu}" in text:
        return "gpt-4o" if "(?i:'s" in text else "tekken"
    if "\\\\p{N}{1,3}" in text:
        return "llama-bpe"
    if "|\\\\p{N}|" in text:
        return "qwen2"
    if regex and text == "[]":
        return "refact" if digits else "gpt-2"
    raise InvalidRequest(
        "the tokenizer splits text by a rule that llama.cpp's library may not know"
    )


def _pieces(
    data: bytes, settings: Mapping[str, Any], whole: Mapping[str, Any], size: int
) -> tuple[_Words, dict[str, int]]:
    """tokenizer.model of sentencepiece, and the tokens that were added to it."""
    tokens: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    for piece, score, kind in _sentence_pieces(data):
        tokens.append(piece)
        scores.append(score)
        types.append(kind)
    added = {int(k): v for k, v in settings.get("added_tokens_decoder", {}).items()}
    added.update({one["id"]: one for one in whole.get("added_tokens", ())})
    _check_fits(max(added, default=0) + 1, size)
    for number, one in sorted(added.items()):
        while len(tokens) <= number:
            tokens.append(f"[PAD{len(tokens)}]")
            scores.append(_WORST)
            types.append(_UNUSED)
        if types[number] in (_NORMAL, _UNUSED):
            tokens[number] = one["content"]
            types[number] = _CONTROL if one.get("special") else _USER
    space = bool(settings.get("add_prefix_space", not _is_gemma(settings)))
    more: dict[str, Value] = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.add_space_prefix": space,
    }
    return _Words(tokens, types, scores, more), {text: number for number, text in enumerate(tokens)}


def _is_gemma(settings: Mapping[str, Any]) -> bool:
    return "Gemma" in str(settings.get("tokenizer_class"))


def _sentence_pieces(data: bytes) -> Iterator[tuple[str, float, int]]:
    """(text, score, type) of each piece of a ModelProto (sentencepiece_model.proto)."""
    for field, value in _fields(data):
        if field != 1 or not isinstance(value, bytes):
            continue
        piece, score, kind = "", 0.0, _NORMAL
        for inner, part in _fields(value):
            if inner == 1 and isinstance(part, bytes):
                piece = part.decode(errors="replace")
            elif inner == 2 and isinstance(part, bytes):
                (score,) = struct.unpack("<f", part)
            elif inner == 3 and isinstance(part, int):
                kind = part
        yield piece, score, kind


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol buffer. Raises `InvalidRequest`."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(kind, len(data) + 1)
        if at + size > len(data):
            raise InvalidRequest("tokenizer.model is damaged")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(data):
            break
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise InvalidRequest("tokenizer.model is damaged")


def _special(
    folder: Path, settings: Mapping[str, Any], whole: Mapping[str, Any], names: Mapping[str, int]
) -> dict[str, Value]:
    """Which tokens begin and end texts, and the chat template."""
    config = {
        **read_json(folder / "config.json"),
        **read_json(folder / "generation_config.json"),
    }
    found: dict[str, Value] = {}
    for kind in ("bos", "eos", "pad", "unk"):
        text = settings.get(f"{kind}_token")
        text = text.get("content") if isinstance(text, Mapping) else text
        number = names.get(text) if isinstance(text, str) else config.get(f"{kind}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        if isinstance(number, int):
            name = "unknown" if kind == "unk" else "padding" if kind == "pad" else kind
            found[f"tokenizer.ggml.{name}_token_id"] = number
    bos = settings.get("bos_token")
    bos = bos.get("content") if isinstance(bos, Mapping) else bos
    processor = json.dumps(whole.get("post_processor") or {}, ensure_ascii=False)
    adds = settings.get("add_bos_token", bool(bos) and json.dumps(bos)[1:-1] in processor)
    found["tokenizer.ggml.add_bos_token"] = bool(adds)
    template = _template(folder, settings)
    if template:
        found["tokenizer.chat_template"] = template
    return found


def _template(folder: Path, settings: Mapping[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text("utf-8")
    found = settings.get("chat_template") or ""
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found}
        found = named.get("default") or ""
    return str(found)
