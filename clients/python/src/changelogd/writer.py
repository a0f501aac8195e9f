"""Writes many mutations over one stream, and answers each of them.

A message takes queued mutations when the previous one is sent, so batches grow with the load and need no timer. What is
outstanding is bounded: then `set` and `delete` wait.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self

import grpc
from grpc import StatusCode

from changelogd.entity import Entity, Key, encode
from changelogd.errors import Error
from changelogd.reads import begin
from changelogd.v1 import changelog_pb2 as pb

# The server refuses a message with more.
_BATCH_MUTATIONS = 1_000
# The server takes at least 4 MiB. A small message lets it answer the first mutations while it reads the next ones.
_BATCH_BYTES = 1 << 20
# The server has 16,384 units for a stream, 1 for each mutation and each KiB. About as much here keeps it busy.
_OUTSTANDING_MUTATIONS = 10_000
_OUTSTANDING_BYTES = 8 << 20
# The id of a mutation, which is given later, and its tag and length in the message.
_FRAME_BYTES = 16


# Without eq, so that a mutation equals only itself.
@dataclass(eq=False, slots=True)
class _Mutation:
    message: pb.Mutation
    size: int
    future: Future[pb.Position]


class Writer:
    """A stream of mutations. Threads may share one, and those of one workspace are applied in the order of the calls.

    A future has the position of its record, or the error. Its callbacks run on the thread that reads the verdicts, so
    they must not wait for this writer.
    """

    def __init__(self, write: Callable[..., Any], timeout: float, close_timeout: float) -> None:
        self._timeout = timeout
        self._close_timeout = close_timeout
        # Guards all members below, and is notified when one of them changes.
        self._state = threading.Condition()
        self._waiting: deque[_Mutation] = deque()
        self._queue: deque[_Mutation] = deque()
        self._outstanding: dict[int, _Mutation] = {}
        self._outstanding_bytes = 0
        self._last_id = 0
        self._is_closing = False
        self._has_ended = False
        self._failure: Error | None = None
        self._has_raised = False
        # gRPC takes the messages on a thread of its own, which ends with the call.
        self._call = begin(write, self._messages())
        # `close` ends it. A writer that is not closed must not keep the process alive.
        self._reader = threading.Thread(target=self._read, name="changelogd-writer", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self.close()
        except Error:
            # The error of the block says more.
            if kind is None:
                raise

    def set(self, entity: Entity, *, timeout: float | None = None) -> Future[pb.Position]:
        """Raises TimeoutError if too much is outstanding for `timeout` seconds. Then nothing was sent.

        Raises the error of the stream if it broke, and ValueError if the writer is closed.
        """
        return self._put(entity.key(), timeout, raw=encode(entity))

    def delete(self, key: Key, *, timeout: float | None = None) -> Future[pb.Position]:
        """Waits as `set` does."""
        return self._put(key, timeout, deletion=pb.Deletion())

    def close(self, timeout: float | None = None) -> None:
        """Waits for all verdicts. Raises the error of the stream if it broke. A refused mutation does not break it.

        Cancels the stream after `timeout` seconds. A second call does not raise the error again.
        """
        seconds = self._close_timeout if timeout is None else timeout
        with self._state:
            self._is_closing = True
            self._state.notify_all()
        self._reader.join(seconds)
        if self._reader.is_alive():
            self._call.cancel()
            self._reader.join(self._timeout)
        if self._failure and not self._has_raised:
            self._has_raised = True
            raise self._failure

    def _put(self, key: Key, timeout: float | None, **change: Any) -> Future[pb.Position]:
        message = pb.Mutation(workspace_id=key.workspace, changelog_id=key.changelog_id, **change)
        mutation = _Mutation(message, message.ByteSize() + _FRAME_BYTES, Future())
        # The mutation can't be taken back, so the future can't be cancelled.
        mutation.future.set_running_or_notify_cancel()
        seconds = self._timeout if timeout is None else timeout
        with self._state:
            # In order: else small mutations would take the room that a large one waits for.
            self._waiting.append(mutation)
            try:
                has_turn = self._state.wait_for(lambda: self._is_over() or self._has_room(mutation), seconds)
            finally:
                self._waiting.remove(mutation)
                self._state.notify_all()
            if not has_turn:
                raise TimeoutError(f"{len(self._outstanding)} mutations are outstanding; {key} was not sent")
            if self._failure:
                raise self._failure
            if self._is_closing:
                raise ValueError("the writer is closed")
            self._last_id += 1
            message.id = self._last_id
            self._outstanding[message.id] = mutation
            self._outstanding_bytes += mutation.size
            self._queue.append(mutation)
        return mutation.future

    def _is_over(self) -> bool:
        return self._is_closing or self._has_ended

    def _has_room(self, mutation: _Mutation) -> bool:
        if self._waiting[0] is not mutation:
            return False
        if not self._outstanding:
            return True
        bytes_fit = self._outstanding_bytes + mutation.size <= _OUTSTANDING_BYTES
        return bytes_fit and len(self._outstanding) < _OUTSTANDING_MUTATIONS

    def _messages(self) -> Iterator[pb.WriteRequest]:
        """The request stream. Its end is the half-close."""
        while batch := self._next_batch():
            yield pb.WriteRequest(mutations=batch)

    def _next_batch(self) -> list[pb.Mutation]:
        batch: list[pb.Mutation] = []
        size = 0
        with self._state:
            # Without a bound: an idle writer waits for its next mutation, its close, or the end of the stream.
            self._state.wait_for(lambda: self._queue or self._is_over())
            while self._queue and len(batch) < _BATCH_MUTATIONS:
                size += self._queue[0].size
                if batch and size > _BATCH_BYTES:
                    break
                batch.append(self._queue.popleft().message)
        return batch

    def _read(self) -> None:
        failure = None
        try:
            for response in self._call:
                for verdict in response.verdicts:
                    self._answer(verdict)
        except grpc.RpcError as error:
            failure = Error.of_call(error)
        finally:
            self._end(failure)

    def _answer(self, verdict: pb.Verdict) -> None:
        with self._state:
            mutation = self._outstanding.pop(verdict.id, None)
            if mutation is None:
                return
            self._outstanding_bytes -= mutation.size
            self._state.notify_all()
        match verdict.WhichOneof("outcome"):
            case "written":
                mutation.future.set_result(verdict.written.position)
            case "error":
                mutation.future.set_exception(Error.of_message(verdict.error))
            case _:
                mutation.future.set_exception(Error(StatusCode.UNKNOWN, "the verdict is not known to this version"))

    def _end(self, failure: Error | None) -> None:
        cause = failure or Error(StatusCode.UNKNOWN, "the server ended the stream before it was closed")
        with self._state:
            self._failure = cause if failure or self._outstanding or not self._is_closing else None
            self._has_ended = True
            outstanding = list(self._outstanding.values())
            self._outstanding.clear()
            self._queue.clear()
            self._state.notify_all()
        for mutation in outstanding:
            # Without the reason of the stream: the mutation may have been written, so it is not safe to retry.
            error = Error(cause.code, f"the stream ended without a verdict: {cause.message}")
            error.__cause__ = cause
            mutation.future.set_exception(error)
