"""Calls on threads of their own."""

from __future__ import annotations

import threading

import pytest

from trunkline.core.aside import aside


def test_what_is_returned_or_raised() -> None:
    def fail() -> None:
        raise ValueError("why")

    assert aside(lambda: threading.current_thread().name, "beside").result(30) == "beside"
    with pytest.raises(ValueError, match="why"):
        aside(fail, "beside").result(30)


def test_nobody_waits_for_it_or_cancels_it() -> None:
    over = threading.Event()
    made = aside(over.wait, "beside")
    assert not made.cancel()
    assert all(one.daemon for one in threading.enumerate() if one.name == "beside")
    over.set()
    assert made.result(30)
