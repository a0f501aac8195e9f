"""The client of one sidecar."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from grpc import StatusCode

from changelogd import reads
from changelogd.cancel import Cancel
from changelogd.channel import connect
from changelogd.entity import E, Entity, Key, Record, decode, encode
from changelogd.errors import Error
from changelogd.v1 import changelog_pb2 as pb
from changelogd.v1.changelog_pb2_grpc import ChangelogServiceStub
from changelogd.watch import Event, watch_workspace
from changelogd.writer import Writer

_DEFAULT_ADDRESS = "127.0.0.1:50051"
# Above the server's --write-timeout (10 s) plus 5 s, so that the server says what became of a write.
_CALL_SECONDS = 30.0
# The server's --read-timeout.
_LOAD_SECONDS = 300.0
# The server's longest wait.
_FLUSH_SECONDS = 60.0
# The server keeps no more.
_FLUSH_FAILURES = 10_000


@dataclass(frozen=True, slots=True)
class FailedWrite:
    key: Key
    error: Error


@dataclass(frozen=True, slots=True)
class Flushed:
    """All writes before `flush` are in the log if nothing remains, nothing failed and nothing was omitted.

    `remaining` writes were still in flight. `omitted` failures are no longer kept by the server.
    """

    remaining: int
    failures: tuple[FailedWrite, ...]
    omitted: int


class Client:
    """Threads may share one. `address` is `host:port` or `unix:/path`, else CHANGELOGD_ADDR, else 127.0.0.1:50051.

    An empty address counts as absent, and one of another form raises ValueError. Timeouts are in seconds. A call that
    is given none has `call_timeout`; a load or a stream has `load_timeout`. A call that fails raises `Error`. A key, a
    workspace or a type with an unpaired surrogate raises ValueError.
    """

    def __init__(
        self, address: str | None = None, *, call_timeout: float = _CALL_SECONDS, load_timeout: float = _LOAD_SECONDS
    ) -> None:
        self.address = address or os.environ.get("CHANGELOGD_ADDR") or _DEFAULT_ADDRESS
        self._call_timeout = call_timeout
        self._load_timeout = load_timeout
        self._channel = connect(self.address)
        self._stub: Any = ChangelogServiceStub(self._channel)
        self._flushing = threading.Lock()
        self._last_failure = 0
        self._closed = Cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all calls and each `watch`, with CANCELLED. Later calls raise CANCELLED too. Close writers before."""
        # Before the channel, so that `watch` does not take its end for one that passes.
        self._closed.cancel()
        self._channel.close()

    def set(self, entity: Entity, *, buffered: bool = False, timeout: float | None = None) -> pb.Position | None:
        """Returns when the log has the write, with its position.

        `buffered`: returns None when the server has queued the write. `flush` then says whether it failed.
        """
        key = entity.key()
        request = pb.SetRequest(
            workspace_id=key.workspace, changelog_id=key.changelog_id, raw=encode(entity), ack=_ack(buffered)
        )
        return _position(self._unary(self._stub.Set, request, timeout))

    def delete(self, key: Key, *, buffered: bool = False, timeout: float | None = None) -> pb.Position | None:
        """As `set`. Deleting an absent entity is no error."""
        request = pb.DeleteRequest(workspace_id=key.workspace, changelog_id=key.changelog_id, ack=_ack(buffered))
        return _position(self._unary(self._stub.Delete, request, timeout))

    def get(self, entity: type[E], key: Key, *, timeout: float | None = None) -> E | None:
        """None if the entity is absent or deleted. On Kafka it costs as much as a load, so do not call it in a loop."""
        request = pb.GetRequest(workspace_id=key.workspace, changelog_id=key.changelog_id)
        try:
            answer = self._unary(self._stub.Get, request, timeout)
        except Error as error:
            if error.code is StatusCode.NOT_FOUND and error.reason == "KEY_NOT_FOUND":
                return None
            raise
        return decode(entity, key, answer.entry.raw)

    def flush(self, timeout: float = 5.0) -> Flushed:
        """Waits for the writes that were accepted before. Returns the failures since the previous flush, each once.

        Waits for them at most `timeout` seconds, and at most 60. Then it asks for all failures, without another wait.
        With 10,000 or more, the rest comes with the next flush. After an error, the next flush returns all of them.
        Flushes of one client run one after another.
        """
        # 0 would mean the server's default.
        wait_ms = max(1, round(min(timeout, _FLUSH_SECONDS) * 1_000))
        failures: list[FailedWrite] = []
        omitted = 0
        with self._flushing:
            request = pb.FlushRequest(timeout_ms=wait_ms, failures_after=self._last_failure)
            first = answer = self._unary(self._stub.Flush, request, wait_ms / 1_000 + self._call_timeout)
            while True:
                omitted += answer.failures_omitted
                failures += (FailedWrite(Key.parse(f.key), Error.of_message(f.error)) for f in answer.failures)
                # One answer holds 3 MiB at most, so the one without failures is the last.
                if not answer.failures or len(failures) >= _FLUSH_FAILURES:
                    # Not earlier: if a call fails, the next flush returns all of them.
                    self._last_failure = answer.last_failure
                    return Flushed(first.remaining, tuple(failures), omitted)
                request = pb.FlushRequest(timeout_ms=1, failures_after=answer.last_failure)
                answer = self._unary(self._stub.Flush, request, None)

    def load(
        self, workspace: str, entity: type[E], *, timeout: float | None = None, cancel: Cancel | None = None
    ) -> dict[str, E]:
        """All entities of one type by their ID, in the order of their last change. Never a part of them."""
        seconds = self._load_timeout if timeout is None else timeout
        return reads.load(self._stub, workspace, entity, seconds, cancel)

    def stream(
        self,
        *,
        workspaces: Sequence[str] = (),
        partitions: Sequence[int] = (),
        types: Sequence[type[Entity]] = (),
        timeout: float | None = None,
        cancel: Cancel | None = None,
    ) -> Generator[Record | pb.Snapshot, None, None]:
        """Every record that is still in the log, tombstones too, and a Snapshot for each partition that was read.

        Without a selection it reads everything. Raises PartialLoadError at its end if a partition has no Snapshot. If
        the selection does not say which partitions there are, it asks the server with Describe.
        """
        seconds = self._load_timeout if timeout is None else timeout
        return reads.stream(self._stub, workspaces, partitions, types, seconds, cancel)

    def watch(self, workspace: str, *types: type[E], cancel: Cancel | None = None) -> Generator[Event[E], None, None]:
        """The state of a workspace, and then each change in order, until `cancel`, `break` or an error.

        It waits for a sidecar that restarts, and continues where it was. So it does after RESOURCE_EXHAUSTED with a
        reason, DEADLINE, CANCELLED without a reason, and a state that did not come within `load_timeout`. It waits 0.1
        to 5 s, or as long as the server asks for, up to 60 s. Every other error ends it.

        Of these failures only UNAVAILABLE may last. Others that follow each other for longer than `load_timeout` end it
        with the last of them, unless the state comes in between, or all that was missed.

        A change comes once, unless the log has lost records, as in an unclean election. If it has lost a delivered
        change, the entity's older value comes again, or `Loaded`. After more than 10,000 entities since the newest
        token, which comes at least every 10 s, a broken stream means `Loaded` too.
        """
        if not types:
            raise ValueError("watch needs the types of the entities")
        return watch_workspace(self._stub, workspace, types, self._load_timeout, self._closed, cancel or Cancel())

    def writer(self) -> Writer:
        """A stream for many writes. Use it with `with`, or close it."""
        return Writer(self._stub.Write, self._call_timeout, self._load_timeout)

    def _unary(self, method: Any, request: Any, timeout: float | None) -> Any:
        return reads.unary(method, request, self._call_timeout if timeout is None else timeout)


def _ack(buffered: bool) -> pb.Ack:
    return pb.ACK_BUFFERED if buffered else pb.ACK_DURABLE


def _position(answer: pb.SetResponse | pb.DeleteResponse) -> pb.Position | None:
    return answer.position if answer.HasField("position") else None
