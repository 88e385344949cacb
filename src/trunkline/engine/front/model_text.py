"""What the front needs of a model: its tokenizer and its chat template."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import NamedTuple

import msgspec

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import ModelCard
from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import CoreReady
from trunkline.engine.front.renderer import TemplateRenderer
from trunkline.engine.front.shape import Shaper
from trunkline.engine.grammar.compiler import GrammarCompiler
from trunkline.engine.grammar.vocabulary import outline
from trunkline.formats.gguf import MalformedGguf
from trunkline.formats.gguf_facts import ModelFacts, read_facts
from trunkline.libllama.library import LibraryUnusable
from trunkline.libllama.model import LoadFailed
from trunkline.text.byte_tokenizer import CHATML, ByteTokenizer
from trunkline.text.gguf_tokenizer import load_tokenizer
from trunkline.text.output import OutputFormat
from trunkline.text.tokenizer import Tokenizer

log = logging.getLogger("trunkline.front")


class ModelText:
    """Tokenizer, chat template and ways of speaking of one model."""

    def __init__(self, config: EngineConfig, parts: Parts) -> None:
        self.tokenizer: Tokenizer = parts.tokenizer
        # None: the model has no chat template that works; `why_no_chat` says so to the client.
        self.renderer: TemplateRenderer | None = None
        self.why_no_chat = (
            f"model {config.name!r} has no chat template; use plain completions, or give one"
        )
        self._parts = parts
        self._format = OutputFormat.of(
            parts.template or "",
            tool_call_parser=config.tool_call_parser,
            reasoning_parser=config.reasoning_parser,
        )
        self._compiler = GrammarCompiler(lambda: outline(self.tokenizer))
        self.shaper = Shaper(self._format, self.tokenizer, self._compiler)

    async def start(self, config: EngineConfig) -> None:
        """Compile the template; one that the model brings along and that is malformed makes chat
        impossible, nothing else. Raises `InvalidRequest` for the template of `config`.
        """
        parts = self._parts
        if parts.template is None:
            return
        renderer = TemplateRenderer(parts.template, bos_token=parts.bos, eos_token=parts.eos)
        try:
            await renderer.start()
        except InvalidRequest as error:
            if config.chat_template is not None:
                raise InvalidRequest(f"{config.chat_template}: {error.message}") from error
            self.why_no_chat = f"model {config.name!r} cannot chat: {error.message}"
            log.warning("%s", self.why_no_chat)
        else:
            self.renderer = renderer

    async def close(self) -> None:
        """End the workers."""
        await self._compiler.close()
        if self.renderer is not None:
            await self.renderer.close()

    def card(self, config: EngineConfig, core: CoreReady) -> ModelCard:
        """What a client may want to know."""
        facts = self._parts.facts
        card = ModelCard(
            name=config.name,
            context_length=core.context,
            created=self._parts.created,
            source=config.model,
            vocab_size=self.tokenizer.vocab_size,
            chat_template=self._parts.template or "",
            capabilities=self._capabilities(),
            max_rows=config.max_num_seqs,
        )
        if facts is None:
            return card
        return msgspec.structs.replace(
            card,
            architecture=facts.architecture,
            parameters=facts.parameters,
            quantization=facts.quantization,
            size=facts.weight_bytes,
            embedding_length=facts.embedding,
        )

    def _capabilities(self) -> tuple[str, ...]:
        found = ["completion"]
        if self.renderer is not None:
            found.append("chat")
        if self._format.dialect is not None:
            found.append("tools")
        if self._format.thinking is not None:
            found.append("thinking")
        if self.tokenizer.fim.complete:
            found.append("insert")
        return tuple(found)


class Parts(NamedTuple):
    """What is read of the model file, in a thread."""

    tokenizer: Tokenizer
    template: str | None
    bos: str
    eos: str
    # Modification time of the model file, Unix seconds.
    created: int
    facts: ModelFacts | None = None


async def load_model_text(config: EngineConfig) -> ModelText:
    """Load it, in a thread and in the template worker.

    Raises `InvalidRequest` when the model file or an option of the configuration is at fault.
    """
    text = ModelText(config, await asyncio.to_thread(_load, config))
    await text.start(config)
    return text


def _load(config: EngineConfig) -> Parts:
    try:
        own = Path(config.chat_template).read_text("utf-8") if config.chat_template else None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"chat template {config.chat_template}: {error}") from error
    path = Path(config.model)
    try:
        created = int(path.stat().st_mtime)
        if config.executor == "scripted":
            return Parts(ByteTokenizer(), own or CHATML, "", "<|im_end|>", created)
        facts = read_facts(path)
        tokenizer = load_tokenizer(path)
    except (OSError, MalformedGguf, LoadFailed, LibraryUnusable) as error:
        raise InvalidRequest(f"model {config.model}: {error}") from error
    template = own or facts.chat_template
    return Parts(tokenizer, template, facts.bos or "", facts.eos or "", created, facts)
