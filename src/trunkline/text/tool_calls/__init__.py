"""Tool calls in the text that a model writes: one dialect a file, chosen by the chat template."""

from __future__ import annotations

from trunkline.text.tool_calls.deepseek import DEEPSEEK_V3, DEEPSEEK_V31
from trunkline.text.tool_calls.deepseek_dsml import DEEPSEEK_V4, DEEPSEEK_V32
from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.gemma import FUNCTION_GEMMA, GEMMA4
from trunkline.text.tool_calls.glm import GLM
from trunkline.text.tool_calls.granite import GRANITE, GRANITE4, GRANITE_20B
from trunkline.text.tool_calls.harmony import HARMONY
from trunkline.text.tool_calls.hermes import HERMES
from trunkline.text.tool_calls.kimi import KIMI
from trunkline.text.tool_calls.llama3_json import LLAMA3_JSON
from trunkline.text.tool_calls.mistral import MISTRAL, MISTRAL_V11
from trunkline.text.tool_calls.phi4 import PHI4
from trunkline.text.tool_calls.pythonic import LFM2, PYTHONIC
from trunkline.text.tool_calls.qwen3_coder import QWEN3_CODER

__all__ = ["DIALECTS", "Dialect", "by_name", "for_template"]

# In the order in which a template is compared with them: the more specific first.
DIALECTS: tuple[Dialect, ...] = (
    HARMONY,
    DEEPSEEK_V4,
    DEEPSEEK_V32,
    DEEPSEEK_V3,
    DEEPSEEK_V31,
    KIMI,
    GLM,
    QWEN3_CODER,
    GRANITE,
    GRANITE4,
    GRANITE_20B,
    FUNCTION_GEMMA,
    GEMMA4,
    PHI4,
    LFM2,
    MISTRAL_V11,
    MISTRAL,
    PYTHONIC,
    HERMES,
    LLAMA3_JSON,
)


def for_template(template: str) -> Dialect | None:
    """The dialect of a model with this chat template; None where none is known."""
    return next((dialect for dialect in DIALECTS if dialect.matches(template)), None)


def by_name(name: str) -> Dialect | None:
    """The dialect of that name or alias (vLLM's --tool-call-parser names are among them)."""
    for dialect in DIALECTS:
        if name in (dialect.name, *dialect.aliases):
            return dialect
    return None
