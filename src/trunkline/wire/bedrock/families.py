"""What is known of the models on Bedrock, by their ids ("us.anthropic.claude-opus-4-6-v1").

An id that tells nothing (the ARN of an application's own profile) is of the family "other", to
which nothing of a model's own is sent. Sources, read 2026-11-22:

Claude              `wire.anthropic.claude`; forced tools: github.com/langchain-ai/langchain-aws
                    pull request 1141
caching             docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html; an hour of it:
                    github.com/earendil-works/pi pull request 1570, archestra-ai/archestra issue
                    5696; where Nova does: LibreChat-AI/agents pull request 253
structured output   docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from trunkline.wire.anthropic.claude import Claude, claude

# Claude 1 and 2, which have other names than those that came later.
_OLDEST = re.compile(r"claude-(v\d|instant)")
_OLDEST_CLAUDE = Claude(thinking="never", efforts=())
# Claudes before 4.5; all before caching.
_BEFORE_45 = re.compile(r"claude-(v\d|instant|3|[a-z]+-4-(?!\d\d?(?!\d))|[a-z]+-4-[0-4](?!\d))")
_UNCACHED = re.compile(r"claude-(v\d|instant|3-[a-z]|3-5-sonnet-20240620)")
# AWS names no hour for 4.6.
_SHORT = re.compile(r"claude-[a-z]+-4-6")
# These think by themselves, but not where a tool is forced.
_UNFORCED = re.compile(r"claude-[a-z]+-4-[67]")
# Of the models with open weights, those with structured output.
_STRICT = re.compile(
    r"(qwen|deepseek|mistral|google|nvidia|minimax|moonshotai|moonshot)\.|openai\.gpt-oss"
)


class Family(msgspec.Struct, frozen=True):
    """What one model takes."""

    name: Literal["claude", "nova", "nova-2", "gpt-oss", "other"]
    # The model's id.
    model: str
    # Of Claude alone.
    claude: Claude | None = None

    @property
    def nova(self) -> bool:
        """Whether it is one of Amazon's Novas."""
        return self.name in ("nova", "nova-2")

    @property
    def signs(self) -> bool:
        """Whether it wants its thoughts back, which it has signed."""
        return self.claude is not None and self.claude.thinking != "never"

    @property
    def samples(self) -> bool:
        """Whether it takes temperature, top_p and top_k (where it has that) at all."""
        return self.claude is None or self.claude.samples

    @property
    def samples_by_both(self) -> bool:
        """Whether it takes temperature and top_p together."""
        return self.claude is None or self.claude.samples_twice

    @property
    def forces(self) -> bool:
        """Whether a call of a tool may be demanded."""
        return self.claude is None or self.claude.forces

    @property
    def thinks_when_forced(self) -> bool:
        """Whether it may think, too, where a call of a tool is demanded."""
        return self.claude is None or _UNFORCED.search(self.model) is None

    @property
    def caches(self) -> bool:
        """Whether it keeps prompts up to cache points."""
        return self.nova or (self.claude is not None and not _UNCACHED.search(self.model))

    @property
    def caches_long(self) -> bool:
        """Whether it keeps them for an hour, too."""
        return self._is_45 and _SHORT.search(self.model) is None

    @property
    def strict(self) -> bool:
        """Whether calls of tools can be held to their schemas."""
        return self._is_45 or (self.claude is None and _STRICT.search(self.model) is not None)

    @property
    def _is_45(self) -> bool:
        return self.claude is not None and _BEFORE_45.search(self.model) is None


def family_of(model: str) -> Family:
    """The family of a model's id, or of an ARN that holds one."""
    if "anthropic." in model:
        known = _OLDEST_CLAUDE if _OLDEST.search(model) else claude(model)
        return Family("claude", model, known)
    if "amazon.nova-" in model:
        return Family("nova-2" if "amazon.nova-2" in model else "nova", model)
    return Family("gpt-oss" if "openai.gpt-oss" in model else "other", model)
