"""A context of libllama: KV memory, one batch, and the logits of the last pass."""

from __future__ import annotations

import ctypes as c

import msgspec
import numpy as np
import numpy.typing as npt

from trunkline.libllama.model import LoadFailed, Model
from trunkline.libllama.structs import Batch

# Large enough to be read as any struct ggml_tensor.
_FLAG_BYTES = 1024


class ContextOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of a context."""

    # KV cells, shared by all sequences; a multiple of 256.
    cells: int
    # Tokens of one decode, at least `sequences`: libllama aborts the process otherwise.
    batch: int
    # Tokens that are computed at once inside it.
    ubatch: int
    # Sequence ids, 0 .. sequences - 1; at most 256.
    sequences: int
    # Tokens of one decode whose logits are wanted, at most.
    outputs: int
    threads: int
    # ggml_type of keys and values; f16.
    kv_type: int = 1


class Context:
    """Owns a llama_context until `close`. Used by one thread at a time, but for `abort`.

    A batch is written into `tokens`, `positions`, `sequences` and `outputs` (one entry per token;
    outputs is 1 where logits are wanted) and computed by `decode`.
    """

    def __init__(self, model: Model, options: ContextOptions) -> None:
        self._call = call = model.lib.call
        self._vocab_size = model.vocab_size
        params = call.llama_context_default_params()
        params.n_ctx = options.cells
        params.n_batch = options.batch
        params.n_ubatch = options.ubatch
        params.n_seq_max = options.sequences
        params.n_outputs_max = self.max_outputs = options.outputs
        params.n_threads = params.n_threads_batch = options.threads
        params.kv_unified = True
        params.type_k = params.type_v = options.kv_type
        # ggml asks a C function on each node whether to stop. `ggml_is_empty` is one that reads
        # memory we own: of a tensor of ones it says false, of zeros true. A Python function would
        # take the GIL some thousand times per pass.
        self._flag = c.create_string_buffer(b"\1" * _FLAG_BYTES, _FLAG_BYTES)
        params.abort_callback = c.cast(call.ggml_is_empty, c.c_void_p)
        params.abort_callback_data = c.cast(self._flag, c.c_void_p)
        model.lib.take_errors()
        self._pointer: int | None = call.llama_init_from_model(model.pointer, params)
        if not self._pointer:
            reason = model.lib.take_errors() or "libllama gave no reason"
            raise LoadFailed(f"{model.path}: no context of {options.cells} tokens: {reason}")
        self._memory = call.llama_get_memory(self._pointer)
        self._allocate(int(call.llama_n_batch(self._pointer)))
        self.cells: int = call.llama_n_ctx(self._pointer)

    def _allocate(self, size: int) -> None:
        """The arrays of the batch, to which libllama is given pointers once."""
        self.batch_size = size
        self.tokens = np.zeros(size, dtype=np.int32)
        self.positions = np.zeros(size, dtype=np.int32)
        self.sequences = np.zeros(size, dtype=np.int32)
        self.outputs = np.zeros(size, dtype=np.int8)
        self._ones = np.ones(size, dtype=np.int32)
        # seq_id[i] points to an array of one: entry i of `sequences`.
        first = self.sequences.ctypes.data
        self._lists = first + 4 * np.arange(size, dtype=np.uintp)
        self._batch = Batch(
            n_tokens=0,
            token=self.tokens.ctypes.data,
            embd=None,
            pos=self.positions.ctypes.data,
            n_seq_id=self._ones.ctypes.data,
            seq_id=self._lists.ctypes.data,
            logits=self.outputs.ctypes.data,
        )

    def decode(self, count: int) -> int:
        """Compute the first `count` tokens of the batch; releases the GIL meanwhile.

        Returns 0, or libllama's status: 1 no free cells, 2 aborted, -1 invalid batch, below that
        a failure. After 2 and below -1 the memory of the sequences involved is undefined.
        """
        self._batch.n_tokens = count
        status: int = self._call.llama_decode(self._pointer, self._batch)
        return status

    def logits(self, count: int) -> npt.NDArray[np.float32]:
        """Logits of the `count` outputs of the last pass, shape (count, vocab_size), in the order
        of the batch. A view that is valid until the next `decode`.
        """
        address = self._call.llama_get_logits(self._pointer)
        array = (c.c_float * (count * self._vocab_size)).from_address(address)
        return np.frombuffer(memoryview(array), dtype=np.float32).reshape(count, self._vocab_size)

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Sequence `target` shares cells [start, end) of `source`: metadata only."""
        self._call.llama_memory_seq_cp(self._memory, source, target, start, end)

    def trim(self, sequence: int, start: int = -1, end: int = -1) -> bool:
        """Drop [start, end) of a sequence; -1 = its beginning or end. False: not possible."""
        done: bool = self._call.llama_memory_seq_rm(self._memory, sequence, start, end)
        return done

    def span(self, sequence: int) -> tuple[int, int]:
        """Lowest and highest position of a sequence, (-1, -1) where it is empty."""
        return (
            int(self._call.llama_memory_seq_pos_min(self._memory, sequence)),
            int(self._call.llama_memory_seq_pos_max(self._memory, sequence)),
        )

    def clear(self) -> None:
        """Drop all sequences."""
        self._call.llama_memory_clear(self._memory, False)

    def abort(self) -> None:
        """Make a pass that runs, and those to come, return 2. May be called from any thread."""
        c.memset(self._flag, 0, _FLAG_BYTES)

    def resume(self) -> None:
        """Undo `abort`."""
        c.memset(self._flag, 1, _FLAG_BYTES)

    def close(self) -> None:
        """Free it; harmless when done before. No pass may run."""
        if self._pointer:
            self._call.llama_free(self._pointer)
            self._pointer = None
