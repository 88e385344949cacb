"""What the front needs of a model: its tokenizer and its chat template."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import ModelCard
from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import CoreReady
from trunkline.engine.front.model_file import Head, Reading
from trunkline.engine.front.renderer import TemplateRenderer
from trunkline.engine.front.shape import Shaper
from trunkline.engine.grammar.compiler import GrammarCompiler
from trunkline.engine.grammar.messages import outline
from trunkline.text.output import OutputFormat
from trunkline.text.tokenizer import Tokenizer

log = logging.getLogger("trunkline.front")


class ModelText:
    """Tokenizer, chat template and ways of speaking of one model."""

    def __init__(
        self,
        config: EngineConfig,
        head: Head,
        tokenizer: Tokenizer,
        renderer: TemplateRenderer | None = None,
        why_no_chat: str = "",
    ) -> None:
        self.tokenizer = tokenizer
        # None: the model has no chat template that works; `why_no_chat` says so to the client.
        self.renderer = renderer
        self.why_no_chat = why_no_chat or (
            f"model {config.name!r} has no chat template; use plain completions, or give one"
        )
        self._head = head
        self._format = OutputFormat.of(
            head.template or "",
            tool_call_parser=config.tool_call_parser,
            reasoning_parser=config.reasoning_parser,
        )
        self._compiler = GrammarCompiler(lambda: outline(self.tokenizer))
        self.shaper = Shaper(self._format, self.tokenizer, self._compiler)

    async def close(self) -> None:
        """End the workers."""
        await self._compiler.close()
        if self.renderer is not None:
            await self.renderer.close()

    def card(self, config: EngineConfig, core: CoreReady) -> ModelCard:
        """What a client may want to know."""
        facts = self._head.facts
        card = ModelCard(
            name=config.name,
            context_length=core.context,
            created=self._head.created,
            source=config.model,
            vocab_size=self.tokenizer.vocab_size,
            chat_template=self._head.template or "",
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


async def load_model_text(config: EngineConfig, reading: Reading) -> ModelText:
    """Put together what `reading` finds, and start the template worker meanwhile.

    Raises `InvalidRequest` when the model file or an option of the configuration is at fault.
    """
    head = await asyncio.wrap_future(reading.head)
    rendering = asyncio.create_task(_renderer(config, head), name="template")
    try:
        tokenizer = await asyncio.wrap_future(reading.tokenizer)
        return ModelText(config, head, tokenizer, *await asyncio.shield(rendering))
    except BaseException:
        rendering.cancel()
        (found,) = await asyncio.gather(rendering, return_exceptions=True)
        if not isinstance(found, BaseException) and found[0] is not None:
            await found[0].close()
        raise


async def _renderer(config: EngineConfig, head: Head) -> tuple[TemplateRenderer | None, str]:
    """What renders the chat template, or why there is no chat. One that the model brings along and
    that is malformed makes chat impossible, nothing else. Raises `InvalidRequest` for that of
    `config`.
    """
    if head.template is None:
        return None, ""
    renderer = TemplateRenderer(head.template, bos_token=head.bos, eos_token=head.eos)
    try:
        await renderer.start()
    except InvalidRequest as error:
        if config.chat_template is not None:
            raise InvalidRequest(f"{config.chat_template}: {error.message}") from error
        why = f"model {config.name!r} cannot chat: {error.message}"
        log.warning("%s", why)
        return None, why
    return renderer, ""
