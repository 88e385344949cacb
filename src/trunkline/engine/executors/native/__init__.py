"""Loads models into the native engine, or says why it cannot."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import msgspec

from trunkline.core.errors import InternalError, InvalidRequest
from trunkline.engine.config import EngineConfig
from trunkline.engine.executors.cpus import core_cpus, physical_cores
from trunkline.engine.executors.memory import (
    Layout,
    available_memory,
    native_cost,
    plan_layout,
)
from trunkline.engine.executors.native.architectures import ARCHITECTURES
from trunkline.engine.executors.native.description import (
    Description,
    Metadata,
    Unsupported,
    check_lengths,
)
from trunkline.engine.executors.native.executor import NativeExecutor
from trunkline.engine.executors.native.vocabulary import Vocabulary
from trunkline.engine.executors.native.weights import Weight, weights
from trunkline.engine.seam import Capabilities
from trunkline.formats.gguf import TENSOR_TYPES, Gguf, MalformedGguf
from trunkline.formats.gguf_facts import ModelFacts, facts_of
from trunkline.libllama.library import LibraryUnusable
from trunkline.libllama.model import LoadFailed
from trunkline.libnative.library import NativeLibrary, NativeUnusable, native
from trunkline.libnative.model import NativeFailed, NativeModel
from trunkline.libnative.structs import KV_BF16, KV_F16, KV_INT8, Kind

__all__ = ["NativeExecutor", "Unsupported", "load", "load_if_able"]

log = logging.getLogger(__name__)

# The variant of the kernels for any CPU: llama.cpp's are faster there.
SLOW_CPU = "generic"
# Most tokens of a plan, rows that live, and rows that sample in a step.
MAX_STEP_TOKENS = 2048
MAX_ROWS = 512
# Seconds between two reports of progress.
_PERIOD = 0.1

# `--kv-cache-dtype`.
_KV_TYPES: Mapping[str, int] = MappingProxyType(
    {"auto": KV_F16, "f16": KV_F16, "bf16": KV_BF16, "int8": KV_INT8}
)

_MATRICES = frozenset(
    {
        *(Kind.TOKEN_EMBEDDING, Kind.OUTPUT, Kind.Q, Kind.K, Kind.V, Kind.O),
        *(Kind.GATE, Kind.UP, Kind.DOWN, Kind.ROUTER),
    }
)


def load_if_able(
    config: EngineConfig, on_progress: Callable[[float], None]
) -> NativeExecutor | str:
    """As `load`; where only the native engine cannot run this model here: why."""
    try:
        lib = native()
        if lib.cpu == SLOW_CPU:
            return "it has no kernels made for this CPU"
        with _told(config):
            return _load(lib, config, on_progress)
    except (Unsupported, NativeUnusable, NativeFailed) as error:
        return str(error)


def load(config: EngineConfig, on_progress: Callable[[float], None]) -> NativeExecutor:
    """Load the GGUF file `config.model`. Raises `TrunklineError`, with what to do about it."""
    try:
        with _told(config):
            return _load(native(), config, on_progress)
    except Unsupported as error:
        raise InvalidRequest(
            f"{config.model} cannot run on the native engine: {error}. Use --executor ggml.",
            param="executor",
        ) from error
    except (NativeUnusable, NativeFailed) as error:
        raise InternalError(str(error)) from error


@contextlib.contextmanager
def _told(config: EngineConfig) -> Iterator[None]:
    """What is wrong with the file becomes a `TrunklineError`: no other engine would load it."""
    try:
        yield
    except (MalformedGguf, LoadFailed) as error:
        raise InvalidRequest(str(error)) from error
    except LibraryUnusable as error:
        raise InternalError(str(error)) from error
    except OSError as error:
        raise InvalidRequest(f"{config.model} cannot be read: {error.strerror}") from error


def _load(
    lib: NativeLibrary, config: EngineConfig, on_progress: Callable[[float], None]
) -> NativeExecutor:
    path = Path(config.model)
    with contextlib.ExitStack() as opened:
        # Once: reading the head of a file with a large vocabulary takes 0.05 s.
        files = [opened.enter_context(Gguf(path))]
        facts = facts_of(files[0])
        files += [opened.enter_context(Gguf(part)) for part in facts.files[1:]]
        layout = _layout(facts, config)
        # Read, where it is not known yet, while the weights are packed.
        with ThreadPoolExecutor(1) as beside:
            vocabulary = beside.submit(Vocabulary, path)
            model = _make_model(lib, files, facts, config, layout, on_progress)
            try:
                words = vocabulary.result()
            except BaseException:
                model.close()
                raise
    blocks = layout.cells // lib.block
    try:
        if words.words != model.vocab:
            raise Unsupported(f"{words.words} words for {model.vocab} rows of the embedding")
        model.reserve(blocks)
    except BaseException:
        model.close()
        words.close()
        raise
    on_progress(1.0)
    return NativeExecutor(
        model,
        words,
        Capabilities(
            memory="blocks",
            page=lib.block,
            kv_tokens=blocks * lib.block,
            sequences=MAX_ROWS,
            context=layout.context,
            max_step_tokens=MAX_STEP_TOKENS,
            max_outputs=MAX_ROWS,
            max_scores=layout.scores,
            kv_bytes_per_token=model.block_bytes // lib.block,
            eog=words.eog,
            vocab_size=model.vocab,
        ),
    )


def _layout(facts: ModelFacts, config: EngineConfig) -> Layout:
    if not facts.generates:
        raise Unsupported("it makes embeddings or scores, not text")
    if facts.architecture not in ARCHITECTURES:
        raise Unsupported(f"it does not know the architecture {facts.architecture!r}")
    layout = plan_layout(facts, config, available_memory(), native_cost(facts, config))
    if layout.context > facts.context:
        log.warning(
            "%s was trained for %d tokens; beyond that its answers decay",
            config.model,
            facts.context,
        )
    return layout


def _describe(facts: ModelFacts, gguf: Gguf, context: int) -> Description:
    describe = ARCHITECTURES[facts.architecture]
    description = describe(Metadata(gguf, context or facts.context), facts.vocab_size)
    check_lengths(description)
    return description


def _check_types(lib: NativeLibrary, found: Iterator[Weight]) -> None:
    for one in found:
        if one.kind in _MATRICES and not lib.supports(one.type, one.rows, one.cols):
            name = TENSOR_TYPES[one.type][0]
            raise Unsupported(f"it has no kernel for {name} matrices of {one.rows} x {one.cols}")


def _make_model(
    lib: NativeLibrary,
    files: Sequence[Gguf],
    facts: ModelFacts,
    config: EngineConfig,
    layout: Layout,
    on_progress: Callable[[float], None],
) -> NativeModel:
    description = _describe(facts, files[0], layout.context)
    found = list(weights(files, description))
    _check_types(lib, iter(found))
    model = _new_model(lib, description, config)
    try:
        for one in found:
            model.put(*one)
        # The embedding is read where it lies, unless it is the output matrix too.
        tied = all(one.kind != Kind.OUTPUT for one in found)
        table = [one.data for one in found if one.kind == Kind.TOKEN_EMBEDDING and not tied]
        with _progress(model, on_progress):
            model.pack(table)
    except BaseException:
        model.close()
        raise
    for file in files:
        file.forget()
    return model


def _new_model(lib: NativeLibrary, description: Description, config: EngineConfig) -> NativeModel:
    threads = config.threads or physical_cores()
    shape = msgspec.structs.asdict(description)
    shape["kv_type"] = _KV_TYPES[config.kv_cache_dtype]
    for name in ("frequencies", "rope", "windows", "more_weights", "fused_gate"):
        del shape[name]
    # Bound to CPUs only where we have all of them: else two engines would share the same ones.
    cpus = core_cpus()
    bound = cpus if threads == len(cpus) == os.cpu_count() else None
    return NativeModel(
        lib,
        shape,
        windows=description.windows,
        rope=description.rope,
        frequencies=description.frequencies,
        threads=threads,
        cpus=bound,
    )


@contextlib.contextmanager
def _progress(model: NativeModel, report: Callable[[float], None]) -> Iterator[None]:
    """Report while the body runs, from a thread of its own."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_PERIOD):
            report(min(model.progress, 0.99))

    thread = threading.Thread(target=watch, name="progress")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
