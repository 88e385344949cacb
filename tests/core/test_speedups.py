"""Which module is taken, that none is needed, and that nothing is kept too long or let go."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import pytest

from trunkline.core import speedups
from trunkline.libnative.build import SOURCES, SPEEDUPS

native: Any = speedups.native
needs_native = pytest.mark.skipif(native is None, reason="the speedups are not built here")

SHOW = """
from trunkline.core import heads, metrics, outline, pieces, speedups
from trunkline.gateway import endpoint, tally, window
from trunkline.server import account, form
print(speedups.native is None, outline.Outline.__name__, outline.WholeAnswer.__name__,
      heads.Heads.__name__, metrics.Counter.__base__.__name__, metrics.Histogram.__base__.__name__,
      window.Window.__name__, endpoint.Endpoint.__base__.__name__, pieces.Events.__name__,
      account.Account.__name__, form.Form.__name__)
"""


def shown(**variables: str) -> list[str]:
    """What `SHOW` prints where the environment has these variables."""
    run = [sys.executable, "-c", SHOW]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.split()


NAMES = [
    *("Outline", "WholeAnswer", "Heads", "Counter", "Histogram", "Window", "Tally", "Events"),
    *("Account", "Form"),
]


def test_python_does_without() -> None:
    pure = [f"Pure{name}" for name in NAMES]
    assert shown(TRUNKLINE_PURE_PYTHON="1") == ["True", *pure]


@needs_native
def test_what_was_built_is_taken() -> None:
    assert shown(TRUNKLINE_PURE_PYTHON="") == ["False", *NAMES]


def test_the_build_makes_what_is_looked_for() -> None:
    assert SPEEDUPS == speedups.LIBRARY
    text = (SOURCES / "speedups" / "module.cpp").read_text()
    assert f"kVersion = {speedups.VERSION};" in text


def test_a_file_that_was_named_has_to_be_good(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ImportError"):
        shown(TRUNKLINE_SPEEDUPS=str(tmp_path / "none.so"), TRUNKLINE_PURE_PYTHON="")


def test_what_is_no_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "_speedups.abi3.so"
    path.write_bytes(b"no module")
    with pytest.raises(ImportError):
        speedups.load(str(path))


@needs_native
def test_one_of_another_time_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = str(shutil.copy(native.__file__, tmp_path))
    assert speedups.load(path).VERSION == speedups.VERSION
    monkeypatch.setattr(speedups, "VERSION", speedups.VERSION + 1)
    with pytest.raises(ImportError, match="version"):
        speedups.load(path)


@needs_native
def test_types_are_made_of_the_right_arguments() -> None:
    for make, wrong in [
        (native.Heads, (1,)),
        (native.Window, ()),
        (native.Window, ("x",)),
        (native.Histogram, ([1.0],)),
        (native.Histogram, (("x",),)),
        (native.WholeAnswer, ("a", "b")),
        (native.WholeAnswer, ("a", b"b", (), ("c", "d"), ())),
        (native.WholeAnswer, ("a", "b", (), ("c",), ())),
        (native.WholeAnswer, ("a", "b", (), ("c", "d"), 1)),
    ]:
        with pytest.raises(TypeError):
            make(*wrong)
    heads = native.Heads()
    for call in (lambda: heads.learn(b""), lambda: heads.learn_head(b"", "x", 1), heads.learn):
        with pytest.raises(TypeError):
            call()
    for call in (lambda: native.Window(1.0).add(), lambda: native.Tally().answered(1.0)):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError):
        native.Heads.find = None


class _Made:
    """What a head means; it can be in a ring."""

    heads: Any


@needs_native
def test_a_ring_through_heads_is_collected() -> None:
    head = b"GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n"
    made = _Made()
    made.heads = native.Heads()
    made.heads.learn(head + b"x", b"x", made)
    assert made.heads.find(head + b"x")[0] is made
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None


@needs_native
def test_references_are_given_back() -> None:
    head = b"GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n"
    made, heads = _Made(), native.Heads()
    before = sys.getrefcount(made)
    for number in range(600):
        heads.learn(head.replace(b"/ ", b"/%d " % number) + b"x", b"x", made)
        heads.find(head.replace(b"/ ", b"/%d " % number) + b"x")
        heads.find(head.replace(b"1\r", b"0\r"))
    assert sys.getrefcount(made) > before
    del heads
    assert sys.getrefcount(made) == before
    types = [getattr(native, name) for name in NAMES]
    counts = [sys.getrefcount(kind) for kind in types]
    nothing = sys.getrefcount(None)
    for _ in range(100):
        _use(head)
    assert [sys.getrefcount(kind) for kind in types] == counts
    # Most calls give None; before 3.12 it is counted as well.
    assert abs(sys.getrefcount(None) - nothing) < 100


def _use(head: bytes) -> None:
    """Make one of each, do something with it, and let go of it."""
    native.Outline("a", ("b", "c")).find(b'{"a":1}')
    native.Outline("a", ("b",)).find(b'{"a":[')
    answer = native.WholeAnswer("a", "b", ("c",), ("d", "e"), ("f",))
    assert answer.find(b'{"a":[],"b":{"d":5,"f":1}}') == (5, 0)
    heads = native.Heads()
    heads.learn_head(head, 1, "it")
    assert heads.find(head + b"x")
    window = native.Window(60.0)
    window.add(5.0, 1 << 40)
    window.free_in(100.0)
    histogram = native.Histogram((1.0, 2.0))
    histogram.observe(1e300)
    assert native.Form(b"%b%b%.1f").fill(b"a", "b", 0.05, b"c").startswith(b"abb0.1")
    counter = native.Counter()
    account = native.Account(
        native.Tally(), window, window, window, histogram, histogram, counter, counter
    )
    account.began(200.0)
    assert account.passed(201.0, 200.0, 1.0, 3, 4) == (3, 4)
    assert len(histogram.counts) == len(histogram.bounds) + 1
    native.Counter().inc(1e300)
    native.Tally().answered(1e9, 2e8, 3e8, 10**9, 10**9)
    for kind, arguments in ((native.Window, (0.0,)), (native.Outline, ("a", ("b", '"')))):
        with pytest.raises(ValueError):
            kind(*arguments)


@needs_native
def test_memory_is_given_back() -> None:
    head = b"GET / HTTP/1.1\r\nX: %b\r\nContent-Length: 1\r\n\r\n" % (b"x" * 1000)
    tracemalloc.start()
    try:
        sizes = []
        for _ in range(2):
            for _ in range(500):
                _use(head)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # Less than the smallest object a turn.
    assert sizes[1] - sizes[0] < 500 * 16
