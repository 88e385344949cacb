"""A model in the native engine."""

from __future__ import annotations

import ctypes as c
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from trunkline.libnative.library import NativeLibrary
from trunkline.libnative.structs import OK, Draw, Kind, Layer, Shape, Step, Tensor

Int32s = npt.NDArray[np.int32]
Float32s = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

_INTS = c.POINTER(c.c_int32)
_FLOATS = c.POINTER(c.c_float)
_ARRAYS = (
    *("ids", "chunk_tokens", "chunk_start", "chunk_table", "tables"),
    *("output_tokens", "copy_from", "copy_to"),
)


class NativeFailed(Exception):
    """The native engine refused its arguments, or failed; the message holds its reason."""


class NativeModel:
    """Owns a `tln_model` until `close`. Used by one thread at a time, but for `abort`."""

    def __init__(
        self,
        lib: NativeLibrary,
        shape: Mapping[str, int | float],
        *,
        windows: Sequence[int],
        rope: Sequence[int],
        frequencies: Float32s,
        threads: int,
        cpus: Sequence[int] | None,
    ) -> None:
        """`shape`: fields of `tln_shape`, without `size` and `rope_tables`.

        `windows`, `rope`: of each layer. `frequencies`: shape (tables, rope_size / 2). `cpus`: one
        for each thread, None = anywhere. Raises `NativeFailed`.
        """
        self.lib = lib
        self._kept: list[Bytes] = []
        layers = (Layer * len(windows))(*(Layer(*pair) for pair in zip(windows, rope, strict=True)))
        native = Shape(size=c.sizeof(Shape), rope_tables=len(frequencies), **shape)
        if native.layers != len(windows) or frequencies.shape[1] * 2 != native.rope_size:
            raise NativeFailed("layers or frequencies do not fit the shape")
        table = np.ascontiguousarray(frequencies, np.float32)
        bound = None if cpus is None else (c.c_int32 * threads)(*cpus)
        self.vocab = int(native.vocab)
        self.pointer: int | None = lib.call.tln_model_new(
            c.byref(native), layers, table.ctypes.data_as(_FLOATS), threads, bound
        )
        if not self.pointer:
            raise NativeFailed(lib.error())

    def put(
        self, kind: Kind, layer: int, expert: int, type_: int, rows: int, cols: int, data: Bytes
    ) -> None:
        """Give a weight; `data` is kept until `pack`. Raises `NativeFailed`."""
        tensor = Tensor(type_, 0, rows, cols, data.ctypes.data, data.nbytes)
        self._check(self.lib.call.tln_model_put(self.pointer, kind, layer, expert, c.byref(tensor)))
        self._kept.append(data)

    def pack(self, keep: Sequence[Bytes]) -> None:
        """Bring the weights into the kernels' layout. Raises `NativeFailed`.

        `keep`: data that stays where it is as long as the model lives.
        """
        self._check(self.lib.call.tln_model_pack(self.pointer))
        self._kept = list(keep)

    @property
    def progress(self) -> float:
        """How much has been packed, 0 to 1; from any thread."""
        return float(self.lib.call.tln_model_progress(self.pointer))

    @property
    def block_bytes(self) -> int:
        """Bytes of one KV block over all layers."""
        return int(self.lib.call.tln_model_block_bytes(self.pointer))

    def reserve(self, blocks: int) -> None:
        """Take memory for that many KV blocks. Raises `NativeFailed`."""
        self._check(self.lib.call.tln_model_reserve(self.pointer, blocks))

    def step(self, arrays: Mapping[str, Int32s], logits: Float32s) -> int:
        """Compute; the GIL is free meanwhile. Returns the status, `OK` or `ABORTED`.

        `arrays`: those of `tln_step`, contiguous. `logits`: shape (at least outputs, vocab),
        written to. Raises `NativeFailed`.
        """
        outputs = len(arrays["output_tokens"])
        if len(logits) < outputs or logits.shape[1] != self.vocab:
            raise NativeFailed(f"no room for {outputs} rows of logits")
        step = Step(
            size=c.sizeof(Step),
            chunks=len(arrays["chunk_tokens"]),
            tokens=len(arrays["ids"]),
            outputs=outputs,
            copies=len(arrays["copy_from"]),
            table_size=len(arrays["tables"]),
            logits=logits.ctypes.data_as(_FLOATS),
            **{name: arrays[name].ctypes.data_as(_INTS) for name in _ARRAYS},
        )
        status = int(self.lib.call.tln_model_step(self.pointer, c.byref(step)))
        if status < OK:
            raise NativeFailed(self.lib.error())
        return status

    def draw(self, draws: c.Array[Draw]) -> None:
        """Set `token` of each. Their logits stay where they are. Raises `NativeFailed`."""
        self._check(self.lib.call.tln_model_draw(self.pointer, draws, len(draws)))

    def abort(self) -> None:
        """Make the step that runs, or the next one, end early. From any thread."""
        self.lib.call.tln_model_abort(self.pointer)

    def close(self) -> None:
        """Free it; harmless when done before. No step may run."""
        if self.pointer:
            self.lib.call.tln_model_free(self.pointer)
            self.pointer = None
            self._kept.clear()

    def _check(self, status: int) -> None:
        if status != OK:
            raise NativeFailed(self.lib.error())
