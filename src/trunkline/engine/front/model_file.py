"""What the front reads of a model's file, on a thread of its own.

libllama takes longer over a vocabulary (0.4 s for 151,936 words, without the GIL) than the rest of
a small model takes to load, so `begin` comes first: beside it the rest of the front is imported,
the core is started, and the chat template is compiled as soon as it is known.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from trunkline.core.errors import InvalidRequest
from trunkline.engine.config import EngineConfig
from trunkline.formats.gguf import MalformedGguf
from trunkline.formats.gguf_facts import ModelFacts, read_facts
from trunkline.libllama.library import LibraryUnusable
from trunkline.libllama.model import LoadFailed, Model
from trunkline.text.byte_tokenizer import CHATML, ByteTokenizer
from trunkline.text.gguf_tokenizer import GgufTokenizer, load_tokenizer
from trunkline.text.tokenizer import Tokenizer


class Head(NamedTuple):
    """What is known before the vocabulary."""

    template: str | None
    bos: str
    eos: str
    # Modification time of the model file, Unix seconds.
    created: int
    facts: ModelFacts | None = None


class Reading:
    """The results, each as soon as it is there; both raise `InvalidRequest`."""

    def __init__(self) -> None:
        self.head: Future[Head] = Future()
        self.tokenizer: Future[Tokenizer] = Future()


def begin(config: EngineConfig, vocabulary: Future[Model] | None = None) -> Reading:
    """Start to read. Nobody need wait for it: it ends with the process.

    `vocabulary`: of the file in libllama, where that is being loaded already.
    """
    reading = Reading()
    # Whoever waits may leave, but cannot cancel.
    reading.head.set_running_or_notify_cancel()
    reading.tokenizer.set_running_or_notify_cancel()
    arguments = (config, vocabulary, reading)
    threading.Thread(target=_read, args=arguments, name="reading", daemon=True).start()
    return reading


def _read(config: EngineConfig, vocabulary: Future[Model] | None, reading: Reading) -> None:
    try:
        reading.head.set_result(_head(config))
        reading.tokenizer.set_result(_tokenizer(config, vocabulary))
    except Exception as error:  # noqa: BLE001 - raised again where the results are waited for
        for future in (reading.head, reading.tokenizer):
            if not future.done():
                future.set_exception(error)


def _head(config: EngineConfig) -> Head:
    try:
        own = Path(config.chat_template).read_text("utf-8") if config.chat_template else None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"chat template {config.chat_template}: {error}") from error
    path = Path(config.model)
    try:
        created = int(path.stat().st_mtime)
        if config.executor == "scripted":
            return Head(own or CHATML, "", "<|im_end|>", created)
        facts = read_facts(path)
    except (OSError, MalformedGguf) as error:
        raise InvalidRequest(f"model {config.model}: {error}") from error
    return Head(own or facts.chat_template, facts.bos or "", facts.eos or "", created, facts)


def _tokenizer(config: EngineConfig, vocabulary: Future[Model] | None) -> Tokenizer:
    if config.executor == "scripted":
        return ByteTokenizer()
    try:
        if vocabulary is not None:
            return GgufTokenizer(vocabulary.result())
        return load_tokenizer(Path(config.model))
    except (OSError, LoadFailed, LibraryUnusable) as error:
        raise InvalidRequest(f"model {config.model}: {error}") from error
