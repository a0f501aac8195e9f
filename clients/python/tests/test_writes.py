from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta

import pytest
from grpc import StatusCode
from support import Deployment, Failed, fresh, observed, wait_until

from changelogd import Client, Error, Key, Writer
from changelogd.v1 import changelog_pb2 as pb

MIB = 1 << 20


def test_flush_lists_failed_writes(both: tuple[Client, ...], scripted: Client) -> None:
    for client in both:
        workspace = fresh()
        entities = {str(i): Deployment(workspace, str(i), "a", i) for i in range(50)}
        for entity in entities.values():
            assert client.set(entity, buffered=True) is None
        assert client.delete(Key(workspace, "deployment", "0"), buffered=True) is None
        flushed = client.flush()
        assert (flushed.remaining, flushed.failures, flushed.omitted) == (0, (), 0)
        del entities["0"]
        assert client.load(workspace, Deployment) == entities

    with Client(scripted.address) as client:
        flushed = client.flush()
        assert [failure.key for failure in flushed.failures] == [Key("flush", "deployment", id) for id in ("a", "b")]
        for failure in flushed.failures:
            assert (failure.error.code, failure.error.reason) == (StatusCode.UNAVAILABLE, "BROKERS_UNREACHABLE")
            assert failure.error.retry_after == timedelta(seconds=1)
        assert client.flush().failures == ()

    # Flushes at the same time share the failures.
    with Client(scripted.address) as client, ThreadPoolExecutor(4) as pool:
        flushes = list(pool.map(lambda _: client.flush(), range(8)))
        assert sorted(failure.key.id for flushed in flushes for failure in flushed.failures) == ["a", "b"]

    # The first answer waited, and an error later loses nothing.
    with Client(scripted.address) as client:
        client._stub = answers = Answers()
        failed = pb.WriteFailure(id=1, key="ws/deployment/a", error=pb.Error(code=pb.CODE_UNAVAILABLE))
        first = pb.FlushResponse(remaining=3, failures=[failed], last_failure=1, failures_omitted=2)
        answers.next = [first, Failed(b""), first, pb.FlushResponse(last_failure=1, failures_omitted=1)]
        with pytest.raises(Error):
            client.flush()
        flushed = client.flush(timeout=2)
        assert (flushed.remaining, len(flushed.failures), flushed.omitted) == (3, 1, 3)
        assert answers.requests == [(5_000, 0), (1, 1), (2_000, 0), (1, 1)]
        # It is bounded.
        many = pb.FlushResponse(failures=[failed] * 4_000, last_failure=7)
        answers.next = [many] * 4
        assert len(client.flush().failures) == 12_000
        assert len(answers.next) == 1


class Answers:
    """A stub of Flush with these answers."""

    def __init__(self) -> None:
        self.next: list[pb.FlushResponse | Failed] = []
        self.requests: list[tuple[int, int]] = []

    def Flush(self, request: pb.FlushRequest, timeout: float) -> pb.FlushResponse:
        self.requests.append((request.timeout_ms, request.failures_after))
        answer = self.next.pop(0)
        if isinstance(answer, Failed):
            raise answer
        return answer


def test_a_writer_answers_each_mutation(both: tuple[Client, ...]) -> None:
    for client in both:
        workspace = fresh()
        a, b, refused = (Deployment(workspace, id, "x") for id in ("a", "b", ""))
        with client.writer() as writer:
            futures = [writer.set(a), writer.set(refused), writer.set(b), writer.delete(a.key())]
        error = futures.pop(1).exception(timeout=0)
        assert isinstance(error, Error)
        assert (error.code, error.reason, error.field) == (StatusCode.INVALID_ARGUMENT, "KEY_INVALID", "changelog_id")
        positions = [future.result(timeout=0) for future in futures]
        offsets = [position.offset for position in positions]
        assert offsets == sorted(set(offsets))
        assert len({position.partition for position in positions}) == 1
        assert client.load(workspace, Deployment) == {"b": b}
        with pytest.raises(ValueError, match="closed"):
            writer.set(a)


class Unsent:
    """A Write stream whose messages the test takes itself. Cancelled, it ends with OK."""

    messages: Iterator[pb.WriteRequest]

    def __init__(self) -> None:
        self._responses: queue.SimpleQueue[pb.WriteResponse | None] = queue.SimpleQueue()

    def __call__(self, messages: Iterator[pb.WriteRequest], timeout: None) -> Unsent:
        self.messages = messages
        return self

    def __iter__(self) -> Iterator[pb.WriteResponse]:
        return iter(self._responses.get, None)

    def take(self, mutations: int) -> list[tuple[int, int]]:
        """Answers as many mutations. Returns how many each message had, and its bytes."""
        taken: list[tuple[int, int]] = []
        while sum(count for count, _ in taken) < mutations:
            message = next(self.messages)
            written = pb.Written(position=pb.Position(partition=0, offset=0))
            verdicts = [pb.Verdict(id=mutation.id, written=written) for mutation in message.mutations]
            self._responses.put(pb.WriteResponse(verdicts=verdicts))
            taken.append((len(verdicts), message.ByteSize()))
        return taken

    def cancel(self) -> None:
        self._responses.put(None)


def test_a_writer_bounds_its_batches(scripted: Client) -> None:
    # The queued mutations are divided into messages.
    stream = Unsent()
    writer = Writer(stream, timeout=5, close_timeout=5)
    futures = [writer.set(Deployment("ws", str(i), "small")) for i in range(2_500)]
    assert [mutations for mutations, _ in stream.take(2_500)] == [1_000, 1_000, 500]
    # Two fit into a message. One that is too large goes alone.
    for size in (500_000, 500_000, 500_000, 2 * MIB, 1, 1):
        futures.append(writer.set(Deployment("ws", str(size), "x" * size)))
    taken = stream.take(6)
    assert [mutations for mutations, _ in taken] == [2, 1, 1, 2]
    assert [size > MIB for _, size in taken] == [False, False, True, False]
    # A small mutation takes no room that a large one waits for.
    for i in range(16):
        futures.append(writer.set(Deployment("ws", str(i), "x" * 500_000)))
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(writer.set, Deployment("ws", "large", "x" * 500_000))
        wait_until(lambda: len(writer._waiting) == 1)
        with pytest.raises(TimeoutError, match="not sent"):
            writer.set(Deployment("ws", "late", "small"), timeout=0.1)
        stream.take(1)
        futures.append(large.result(timeout=5))
    stream.take(15)
    # A verdict makes room again.
    unanswered = writer.set(Deployment("ws", "unanswered", "small"))
    next(stream.messages)
    for i in range(20):
        futures.append(writer.set(Deployment("ws", str(i), "x" * 500_000)))
        stream.take(1)
    assert all(future.result(timeout=5) for future in futures)
    with pytest.raises(Error, match="before it was closed"):
        writer.close(timeout=0)
    assert_unknown([unanswered], StatusCode.UNKNOWN)

    # The server sees messages within the bounds, and verdicts come while it reads.
    workspace = fresh("count")
    with scripted.writer() as writer:
        futures = [writer.set(Deployment(workspace, str(i), "small")) for i in range(12_000)]
        futures += [writer.set(Deployment(workspace, str(i), "x" * 300_000)) for i in range(40)]
    assert [future.result(timeout=0).offset for future in futures] == list(range(12_040))
    seen = observed(scripted, workspace)
    assert seen.mostMutations <= 1_000
    assert 300_000 < seen.mostBytes <= MIB
    assert seen.messages >= 12 + 40 // 3

    # A server that does not read makes the writer wait, at 10,000 mutations or 8 MiB.
    for value, most in (("small", 10_000), ("x" * 100_000, 8 * MIB // 100_000)):
        workspace = fresh("stall")
        writer = scripted.writer()
        futures = []
        with pytest.raises(TimeoutError, match="not sent"):
            for i in range(most + 100):
                futures.append(writer.set(Deployment(workspace, str(i), value), timeout=0.2))
        assert most - 1 <= len(futures) <= most
        with pytest.raises(Error):
            writer.close(timeout=0.1)
        assert_unknown(futures, StatusCode.CANCELLED)


def test_a_broken_writer_answers_with_unknown_outcomes(scripted: Client) -> None:
    workspace = fresh("cut")
    writer = scripted.writer()
    first, *others = [writer.set(Deployment(workspace, id, "a")) for id in ("a", "b")]
    assert first.result(timeout=5).offset == 0
    for future in others:
        future.exception(timeout=5)
    assert_unknown(others, StatusCode.UNAVAILABLE)
    for call in (lambda: writer.set(Deployment(workspace, "c", "c")), writer.close):
        with pytest.raises(Error) as raised:
            call()
        assert raised.value.code is StatusCode.UNAVAILABLE
    # Once is enough.
    writer.close()

    # Also if the verdicts are dropped.
    with pytest.raises(Error) as raised, scripted.writer() as writer:
        writer.set(Deployment(fresh("cut"), "a", "a"))
    assert raised.value.code is StatusCode.UNAVAILABLE

    # A stream that ends with OK too early is broken too.
    stream = Unsent()
    writer = Writer(stream, timeout=5, close_timeout=5)
    future = writer.set(Deployment("ws", "a", "a"))
    stream.cancel()
    assert future.exception(timeout=5)
    assert_unknown([future], StatusCode.UNKNOWN)
    with pytest.raises(Error, match="before it was closed"):
        writer.close()


def assert_unknown(futures: list[Future[pb.Position]], code: StatusCode) -> None:
    for future in futures:
        error = future.exception(timeout=0)
        assert isinstance(error, Error)
        assert (error.code, error.reason, error.is_safe_to_retry) == (code, "", False)
