"""Watches the entities of a workspace: the state, and then each change in order.

It resumes by token after what passes, such as UNAVAILABLE, and misses no change that is still in the log. When the
token can't be used any more, the state comes again. Only the state is collected: the next change is read when the
caller takes it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic

from grpc import StatusCode

from changelogd.cancel import Cancel
from changelogd.delivered import Delivered
from changelogd.entity import E, Key, Record, check_text
from changelogd.errors import Error
from changelogd.reads import events
from changelogd.v1 import changelog_pb2 as pb

# Seconds, without the random part. A sidecar that restarts is back within the first.
_SHORTEST_WAIT = 0.1
_LONGEST_WAIT = 4.0
# The longest that the server can ask for.
_LONGEST_ASKED = 60.0
_START_AGAIN = {"RESYNC_REQUIRED", "LOG_MOVED", "LOG_TRUNCATED"}


@dataclass(frozen=True, slots=True)
class Loaded(Generic[E]):
    """The whole state. It replaces everything that was delivered before."""

    entities: dict[Key, E]


@dataclass(frozen=True, slots=True)
class Changed(Generic[E]):
    key: Key
    entity: E


@dataclass(frozen=True, slots=True)
class Deleted:
    key: Key


Event = Loaded[E] | Changed[E] | Deleted


class _Late(Error):
    """The state, or the first message of a call that resumes, did not come within the timeout of a load."""


class _Lost(Error):
    """The log has lost changes that were delivered."""


def watch_workspace(
    stub: Any,
    workspace: str,
    types: Sequence[type[E]],
    load_timeout: float,
    closed: Cancel,
    cancel: Cancel,
) -> Generator[Event[E], None, None]:
    either = Cancel()
    with closed.attached(either), cancel.attached(either):
        yield from _Watch(stub, workspace, types, load_timeout, either).events()


class _Watch(Generic[E]):
    def __init__(
        self, stub: Any, workspace: str, types: Sequence[type[E]], load_timeout: float, cancel: Cancel
    ) -> None:
        self._by_name = {entity.entity_type: entity for entity in types}
        check_text(workspace, *self._by_name)
        self._stub = stub
        self._workspace = workspace
        self._load_timeout = load_timeout
        self._cancel = cancel
        # The newest one. With an empty one a watch begins with the state.
        self._token = b""
        self._delivered = Delivered()
        # Begins again with the first event after a Synced. A watch may reach that again and again, and get no further.
        self._pause = _SHORTEST_WAIT
        # When the failures began that have followed each other without a Synced or an UNAVAILABLE among them.
        self._failing_since: float | None = None

    def events(self) -> Generator[Event[E], None, None]:
        while True:
            try:
                yield from self._attempt()
                # The server does not end a watch with OK.
                raise Error(StatusCode.UNAVAILABLE, "the watch ended")
            except Error as error:
                if _starts_again(error):
                    self._token = b""
                if not _passes(error) or self._lasts_too_long(error):
                    raise
                asked = error.retry_after.total_seconds() if error.retry_after else 0.0
            wait = pause(self._pause, asked)
            self._pause = min(self._pause * 2, _LONGEST_WAIT)
            self._cancel.wait(wait)

    def _attempt(self) -> Generator[Event[E], None, None]:
        if self._delivered.overflowed:
            self._token = b""
        self._delivered.begin_attempt()
        # The part of the state that has come. None if none is to come.
        state: dict[Key, E] | None = None
        if not self._token:
            state = {}
            self._delivered.clear()
        request = pb.WatchRequest(
            workspace_id=self._workspace, entity_types=self._by_name, resume_token=self._token
        )
        call, is_late = Cancel(), threading.Event()

        def expire() -> None:
            is_late.set()
            call.cancel()

        # A timeout of the call would end the changes too.
        timer = threading.Timer(min(self._load_timeout, threading.TIMEOUT_MAX), expire)
        timer.daemon = True
        try:
            timer.start()
            method = self._stub.Watch
            if state is None:
                # Without a server the call is UNAVAILABLE at once. An outage is no missing answer, and may last.
                method = partial(method, wait_for_ready=False)
            with self._cancel.attached(call), closing(events(method, request, None, call)) as stream:
                is_synced = False
                for event in stream:
                    if state is None:
                        # The server answers. What was missed is taken as it comes, so its time depends on the caller.
                        timer.cancel()
                    if is_synced:
                        self._pause = _SHORTEST_WAIT
                    match event.WhichOneof("event"):
                        case "batch":
                            for record in map(Record.of, event.batch.entries):
                                if state is not None:
                                    state[record.key] = record.decode(self._by_name[record.key.type])
                                # What came after the event with the token comes again.
                                elif self._delivered.is_new(record):
                                    yield self._change(record)
                        case "synced":
                            if not self._delivered.is_whole():
                                raise _Lost(StatusCode.ABORTED, "the log has lost changes that were delivered")
                            is_synced, self._failing_since = True, None
                            self._covered(event.synced.snapshot.resume_token)
                            if state is not None:
                                timer.cancel()
                                loaded, state = Loaded(state), None
                                yield loaded
                                # The state is the caller's.
                                del loaded
                        case "bookmark":
                            self._covered(event.bookmark.resume_token)
        except Error as error:
            if error.code is StatusCode.CANCELLED and is_late.is_set():
                message = "no state or answer within the timeout of a load"
                raise _Late(StatusCode.DEADLINE_EXCEEDED, message) from error
            raise
        finally:
            timer.cancel()

    def _covered(self, token: bytes) -> None:
        if token:
            self._token = token
            self._delivered.clear()

    def _lasts_too_long(self, error: Error) -> bool:
        """Notes a failure. Those of long outages may last."""
        if error.code is StatusCode.UNAVAILABLE:
            self._failing_since = None
            return False
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        return now - self._failing_since > self._load_timeout

    def _change(self, record: Record) -> Changed[E] | Deleted:
        if record.value is None:
            return Deleted(record.key)
        return Changed(record.key, record.decode(self._by_name[record.key.type]))


def pause(backoff: float, asked: float) -> float:
    """The longer one of both, and up to a quarter more. So clients that lost a server do not come back all at once."""
    return max(backoff, min(asked, _LONGEST_ASKED)) * random.uniform(1, 1.25)


def _starts_again(error: Error) -> bool:
    """True if the token can't be used any more."""
    return isinstance(error, _Lost) or error.reason in _START_AGAIN


def _passes(error: Error) -> bool:
    """True if another attempt may succeed."""
    if isinstance(error, _Late) or _starts_again(error):
        return True
    match error.code:
        case StatusCode.UNAVAILABLE:
            return True
        case StatusCode.RESOURCE_EXHAUSTED:
            # Without a reason, the message was larger than the library's or a proxy's limit.
            return error.reason != ""
        case StatusCode.DEADLINE_EXCEEDED:
            return error.reason == "DEADLINE"
        case StatusCode.CANCELLED:
            # The server reset a stream whose client reads too slowly. After a cancel by the caller, `wait` raises.
            return not error.reason
        case _:
            return False
