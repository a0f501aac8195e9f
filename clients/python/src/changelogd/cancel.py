"""Cancels calls from another thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from changelogd.errors import Error


class Cancel:
    """Give one to any number of calls. `cancel` ends them with CANCELLED, and later ones at once."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        # A thread that has it may run the garbage collector, which ends a generator that needs it.
        self._lock = threading.RLock()
        self._calls: set[grpc.Call | Cancel] = set()

    def cancel(self) -> None:
        with self._lock:
            self._cancelled.set()
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    @contextmanager
    def attached(self, call: grpc.Call | Cancel) -> Iterator[None]:
        """Cancels the call when this is cancelled, or when the block ends. That does nothing if the call is over."""
        with self._lock:
            self._calls.add(call)
        try:
            if self._cancelled.is_set():
                call.cancel()
            yield
        finally:
            with self._lock:
                self._calls.discard(call)
            call.cancel()

    def wait(self, seconds: float) -> None:
        """Waits, or raises CANCELLED as soon as this is cancelled."""
        if self._cancelled.wait(seconds):
            raise Error(grpc.StatusCode.CANCELLED, "cancelled by the caller, or the client was closed")
