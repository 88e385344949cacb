"""What the front needs of a model: its tokenizer and its chat template."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import NamedTuple

from trunkline.core.errors import InvalidRequest
from trunkline.engine.config import EngineConfig
from trunkline.engine.front.renderer import TemplateRenderer
from trunkline.formats.gguf import MalformedGguf
from trunkline.formats.gguf_facts import read_facts
from trunkline.libllama.library import LibraryUnusable
from trunkline.libllama.model import LoadFailed
from trunkline.text.byte_tokenizer import CHATML, ByteTokenizer
from trunkline.text.gguf_tokenizer import load_tokenizer
from trunkline.text.tokenizer import Tokenizer

log = logging.getLogger("trunkline.front")


class ModelText(NamedTuple):
    """Tokenizer and template of one model."""

    tokenizer: Tokenizer
    # None: the model has no chat template that works; `why_no_chat` says so to the client.
    renderer: TemplateRenderer | None
    why_no_chat: str = ""
    # Modification time of the model file, Unix seconds.
    created: int = 0


class _Parts(NamedTuple):
    tokenizer: Tokenizer
    template: str | None
    bos: str
    eos: str
    created: int


async def load_model_text(config: EngineConfig) -> ModelText:
    """Load both, in a thread and in the template worker.

    A template that the model brings along and that is malformed makes chat impossible, nothing
    else. Raises `InvalidRequest` when the model file or the template of the configuration is at
    fault.
    """
    parts = await asyncio.to_thread(_load, config)
    if parts.template is None:
        why = f"model {config.name!r} has no chat template; use plain completions, or give one"
        return ModelText(parts.tokenizer, None, why, parts.created)
    renderer = TemplateRenderer(parts.template, bos_token=parts.bos, eos_token=parts.eos)
    try:
        await renderer.start()
    except InvalidRequest as error:
        if config.chat_template is not None:
            raise InvalidRequest(f"{config.chat_template}: {error.message}") from error
        why = f"model {config.name!r} cannot chat: {error.message}"
        log.warning("%s", why)
        return ModelText(parts.tokenizer, None, why, parts.created)
    return ModelText(parts.tokenizer, renderer, "", parts.created)


def _load(config: EngineConfig) -> _Parts:
    try:
        own = Path(config.chat_template).read_text("utf-8") if config.chat_template else None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"chat template {config.chat_template}: {error}") from error
    path = Path(config.model)
    try:
        created = int(path.stat().st_mtime)
        if config.executor == "scripted":
            return _Parts(ByteTokenizer(), own or CHATML, "", "<|im_end|>", created)
        facts = read_facts(path)
        tokenizer = load_tokenizer(path)
    except (OSError, MalformedGguf, LoadFailed, LibraryUnusable) as error:
        raise InvalidRequest(f"model {config.model}: {error}") from error
    return _Parts(tokenizer, own or facts.chat_template, facts.bos or "", facts.eos or "", created)
