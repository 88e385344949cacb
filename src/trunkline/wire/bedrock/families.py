"""What is known of the models on Bedrock, by their ids ("us.anthropic.claude-opus-4-6-v1").

An id that tells nothing (the ARN of an application's own profile) is of the family "other", to
which nothing of a model's own is sent. Sources, read 2026-11-22:

Claude's thinking, sampling   platform.claude.com/docs: "Extended thinking", "Adaptive thinking",
                              "Effort", the migration guides
temperature with top_p        github.com/BerriAI/litellm issue 15097
caching                       docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html;
                              where Nova does: github.com/LibreChat-AI/agents pull request 253
structured output             docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

_CLAUDE = re.compile(r"claude-(?:([a-z]+)-)?(\d+)(?:[-.](\d{1,2})(?!\d))?")
_OLD_CLAUDE = re.compile(r"claude-(v\d|instant)")
# Of the models with open weights, those with structured output.
_STRICT = re.compile(
    r"(qwen|deepseek|mistral|google|nvidia|minimax|moonshotai|moonshot)\.|openai\.gpt-oss"
)
# Its first version is older than caching.
_UNCACHED = "claude-3-5-sonnet-20240620"


class Family(msgspec.Struct, frozen=True):
    """What one model takes."""

    name: Literal["claude", "nova", "gpt-oss", "other"]
    # The model's id.
    model: str
    # Claude's: "opus", "sonnet", ...; "" = older than that.
    line: str = ""
    # Major and minor. A Claude without a number is taken for a new one.
    version: tuple[int, int] = (0, 0)

    @property
    def claude(self) -> bool:
        """Whether it is one of Anthropic's."""
        return self.name == "claude"

    @property
    def thinks(self) -> bool:
        """Claude: whether it can think at all, and takes its signed thoughts back."""
        return self.claude and self.version >= (3, 7)

    @property
    def adapts(self) -> bool:
        """Claude: whether it decides itself how much to think; the others need a budget."""
        return self.version >= (4, 6)

    @property
    def takes_budget(self) -> bool:
        """Claude: whether it takes a budget."""
        return self.version <= (4, 6)

    @property
    def starts_thinking(self) -> bool:
        """Claude: whether it thinks unless it is told not to."""
        return self.version >= (5, 0)

    @property
    def stops_thinking(self) -> bool:
        """Claude: whether one that thinks by default can be told not to."""
        return (self.line in ("opus", "sonnet") and self.version == (5, 0)) or (
            self.line == "haiku" and self.version <= (5, 5)
        )

    @property
    def samples(self) -> bool:
        """Whether it takes temperature, top_p and top_k (where it has that) at all."""
        return not self.claude or self.version < (4, 7)

    @property
    def samples_by_both(self) -> bool:
        """Whether it takes temperature and top_p together."""
        return not self.claude or self.version < (4, 1)

    @property
    def caches(self) -> bool:
        """Whether it keeps prompts up to cache points."""
        if self.claude:
            return self.version >= (3, 5) and _UNCACHED not in self.model
        return self.name == "nova"

    @property
    def caches_long(self) -> bool:
        """Whether it keeps them for an hour, too. AWS names no hour for 4.6."""
        return self.claude and self.version >= (4, 5) and self.version != (4, 6)

    @property
    def strict(self) -> bool:
        """Whether calls of tools can be held to their schemas."""
        if self.claude:
            return self.version >= (4, 5)
        return _STRICT.search(self.model) is not None


def family_of(model: str) -> Family:
    """The family of a model's id, or of an ARN that holds one."""
    if "anthropic." in model:
        found = _CLAUDE.search(model)
        if found is not None:
            version = (int(found[2]), int(found[3] or 0))
            return Family("claude", model, found[1] or "", version)
        return Family("claude", model, "", (2, 0) if _OLD_CLAUDE.search(model) else (5, 0))
    if "amazon.nova-" in model:
        return Family("nova", model, "", (2, 0) if "amazon.nova-2" in model else (1, 0))
    return Family("gpt-oss" if "openai.gpt-oss" in model else "other", model)
