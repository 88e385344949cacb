"""Loads the shared object that `libnative.build` made, and binds its functions."""

from __future__ import annotations

import ctypes as c
import functools
from pathlib import Path

from trunkline.libnative.build import LIBRARY
from trunkline.libnative.structs import ABI, Draw, Layer, Shape, Step, Tensor

_P, _I = c.c_void_p, c.c_int32

# (name, result type, argument types)
PROTOTYPES: tuple[tuple[str, object, tuple[object, ...]], ...] = (
    ("tln_cpu", c.c_char_p, ()),
    ("tln_block", _I, ()),
    ("tln_supports", _I, (_I, c.c_int64, c.c_int64)),
    ("tln_error", c.c_char_p, ()),
    (
        "tln_model_new",
        _P,
        (c.POINTER(Shape), c.POINTER(Layer), c.POINTER(c.c_float), _I, c.POINTER(_I)),
    ),
    ("tln_model_free", None, (_P,)),
    ("tln_model_put", _I, (_P, _I, _I, _I, c.POINTER(Tensor))),
    ("tln_model_pack", _I, (_P,)),
    ("tln_model_progress", c.c_float, (_P,)),
    ("tln_model_bytes", c.c_uint64, (_P,)),
    ("tln_model_block_bytes", c.c_uint64, (_P,)),
    ("tln_model_reserve", _I, (_P, _I)),
    ("tln_model_step", _I, (_P, c.POINTER(Step))),
    ("tln_model_draw", _I, (_P, c.POINTER(Draw), _I)),
    ("tln_model_abort", None, (_P,)),
)


class NativeUnusable(Exception):
    """There is no native engine here, or it does not fit; the message says why."""


class NativeLibrary:
    """The shared object. `call` has the functions of `PROTOTYPES`."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise NativeUnusable(
                "the native engine has not been built (python -m trunkline.libnative.build; it "
                "needs a C++20 compiler, or the package ziglang)"
            )
        try:
            self.call = c.CDLL(str(path))
            self.call.tln_abi.restype, self.call.tln_abi.argtypes = _I, ()
            abi = int(self.call.tln_abi())
        except (OSError, AttributeError) as error:
            raise NativeUnusable(f"{path} cannot be loaded: {error}") from error
        if abi != ABI:
            raise NativeUnusable(f"{path} has interface {abi}, not {ABI}: build it again")
        for name, result, arguments in PROTOTYPES:
            function = getattr(self.call, name, None)
            if function is None:
                raise NativeUnusable(f"{path} has no {name}: build it again")
            function.restype, function.argtypes = result, arguments
        self.path = path
        # Which of the kernels' variants this CPU runs.
        self.cpu = (self.call.tln_cpu() or b"").decode()
        if not self.cpu:
            raise NativeUnusable(self.error())
        self.block = int(self.call.tln_block())

    def supports(self, kind: int, rows: int, cols: int) -> bool:
        """Whether a matrix of ggml_type `kind` and these sizes can be multiplied."""
        return bool(self.call.tln_supports(kind, rows, cols))

    def error(self) -> str:
        """Why the last call on this thread failed."""
        return (self.call.tln_error() or b"").decode(errors="replace")


@functools.cache
def native() -> NativeLibrary:
    """This process's native engine. Raises `NativeUnusable`."""
    return NativeLibrary(LIBRARY)
