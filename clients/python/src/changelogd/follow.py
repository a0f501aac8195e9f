"""Follows the entities of a workspace: the state, and then each change once and in order.

It resumes by token after what passes, such as UNAVAILABLE, and loads again when the token can't be used any more.
Nothing is buffered: the next event is read when the caller takes it.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic

from grpc import StatusCode

from changelogd.cancel import Cancel
from changelogd.entity import E, Key, Record
from changelogd.errors import Error
from changelogd.reads import events, load
from changelogd.v1 import changelog_pb2 as pb

# Seconds. A sidecar that restarts is back within the first. The jitter spreads the clients that it has.
_SHORTEST_WAIT = 0.1
_LONGEST_WAIT = 5.0
# The longest that the server can ask for.
_LONGEST_ASKED = 60.0
_LOAD_AGAIN = {"RESYNC_REQUIRED", "LOG_MOVED", "LOG_TRUNCATED"}


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


def follow_workspace(
    stub: Any,
    workspace: str,
    types: Sequence[type[E]],
    load_timeout: float,
    closed: Cancel,
    cancel: Cancel,
) -> Generator[Event[E], None, None]:
    either = Cancel()
    with closed.attached(either), cancel.attached(either):
        yield from _follow(stub, workspace, types, load_timeout, either)


def _follow(
    stub: Any, workspace: str, types: Sequence[type[E]], load_timeout: float, cancel: Cancel
) -> Generator[Event[E], None, None]:
    by_name = {entity.entity_type: entity for entity in types}
    token: bytes | None = None
    delivered = -1
    longest = _SHORTEST_WAIT
    while True:
        try:
            if token is None:
                entities, snapshot = load(stub, workspace, types, load_timeout, cancel)
                token, delivered = snapshot.resume_token, snapshot.end_offset - 1
                yield Loaded(entities)
            request = pb.StreamAllRequest(
                workspace_ids=[workspace], entity_types=by_name, resume_token=token, follow=True
            )
            with closing(events(stub.StreamAll, request, None, cancel)) as stream:
                for event in stream:
                    match event.WhichOneof("event"):
                        case "batch":
                            longest = _SHORTEST_WAIT
                            for record in map(Record.of, event.batch.entries):
                                # A resumed stream delivers again what came after its token.
                                if record.offset > delivered:
                                    delivered = record.offset
                                    yield _change(record, by_name)
                        case "snapshot":
                            token = event.snapshot.resume_token or token
                        case "bookmark":
                            longest = _SHORTEST_WAIT
                            token = event.bookmark.resume_token or token
            # The server does not end a stream that follows with OK.
            raise Error(StatusCode.UNAVAILABLE, "the stream ended")
        except Error as error:
            if error.reason in _LOAD_AGAIN:
                token = None
            elif not _passes(error, is_load=token is None):
                raise
            asked = error.retry_after.total_seconds() if error.retry_after else 0.0
        longest = min(longest * 2, _LONGEST_WAIT)
        cancel.wait(max(random.uniform(_SHORTEST_WAIT, longest), min(asked, _LONGEST_ASKED)))


def _passes(error: Error, *, is_load: bool) -> bool:
    """True if another attempt may succeed."""
    match error.code:
        case StatusCode.UNAVAILABLE:
            return True
        case StatusCode.RESOURCE_EXHAUSTED:
            # Without a reason, the message was larger than the library's or a proxy's limit.
            return error.reason != ""
        case StatusCode.DEADLINE_EXCEEDED:
            # Without a reason, a load has reached its timeout. A stream has none.
            return error.reason == "DEADLINE" or (is_load and not error.reason)
        case StatusCode.CANCELLED:
            # The server resets a stream whose client reads too slowly. After a cancel by the caller, `wait` raises.
            return not error.reason
        case _:
            return False


def _change(record: Record, by_name: dict[str, type[E]]) -> Changed[E] | Deleted:
    if record.value is None:
        return Deleted(record.key)
    return Changed(record.key, record.decode(by_name[record.key.type]))
