"""Calls on threads of their own, for which nobody waits at the end of the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def aside(call: Callable[[], T], name: str) -> Future[T]:
    """What `call` returns or raises, made on a thread called `name`. Nobody can cancel it."""
    made: Future[T] = Future()
    made.set_running_or_notify_cancel()

    def run() -> None:
        try:
            made.set_result(call())
        except Exception as error:  # noqa: BLE001 - raised again where the result is waited for
            made.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return made
