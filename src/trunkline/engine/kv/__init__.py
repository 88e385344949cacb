"""KV manager: one radix tree over token ids, memory as cells or as blocks."""

from __future__ import annotations

from trunkline.engine.kv.blocks import BlockMemory
from trunkline.engine.kv.cells import CellMemory
from trunkline.engine.kv.memory import Lease, Memory, Usage
from trunkline.engine.kv.radix import Match, common_prefix
from trunkline.engine.seam import Capabilities

__all__ = ["Lease", "Match", "Memory", "Usage", "common_prefix", "create_memory"]


def create_memory(capabilities: Capabilities) -> Memory:
    """The memory that `capabilities.memory` names."""
    return {"cells": CellMemory, "blocks": BlockMemory}[capabilities.memory](capabilities)
