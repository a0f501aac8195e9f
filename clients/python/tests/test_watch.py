from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta
from itertools import islice
from types import SimpleNamespace
from typing import ClassVar, Self

import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc import StatusCode
from support import Answered, Deployment, Failed, Service, fresh, observed, packed, status, wait_until

from changelogd import Cancel, Changed, Client, Deleted, Error, Key, Loaded
from changelogd.v1 import changelog_pb2 as pb
from changelogd.watch import pause, watch_workspace


def loaded(*entities: Deployment) -> Loaded[Deployment]:
    return Loaded({entity.key(): entity for entity in entities})


def changed(entity: Deployment) -> Changed[Deployment]:
    return Changed(entity.key(), entity)


def assert_cancelled(events: Iterator[object]) -> None:
    with pytest.raises(Error) as raised:
        next(events)
    assert raised.value.code is StatusCode.CANCELLED


def test_watch_loads_and_then_delivers_changes(both: tuple[Client, ...], cancel: Cancel) -> None:
    for client in both:
        workspace = fresh()
        a, b, s = Deployment(workspace, "a", "a"), Deployment(workspace, "b", "b"), Service(workspace, "a", "s")
        for entity in (a, b, s, Deployment(fresh(), "x", "of another workspace")):
            client.set(entity)
        with closing(client.watch(workspace, Deployment, Service, cancel=cancel)) as events:
            assert next(events) == loaded(a, b, s)
            newer, c = Deployment(workspace, "a", "a", 2), Deployment(workspace, "c", "c")
            client.set(newer)
            client.delete(b.key())
            client.set(c)
            assert list(islice(events, 3)) == [changed(newer), Deleted(b.key()), changed(c)]


def test_watch_resumes_after_a_broken_stream(scripted: Client, cancel: Cancel) -> None:
    workspace = fresh("resume")
    events = scripted.watch(workspace, Deployment, cancel=cancel)
    assert list(islice(events, 6)) == [
        loaded(Deployment(workspace, "a", "a", 0)),
        changed(Deployment(workspace, "a", "a", 1)),
        changed(Deployment(workspace, "b", "b", 2)),
        # What was missed comes once, deletes too, although one stream breaks before all of it has come.
        Deleted(Key(workspace, "deployment", "a")),
        changed(Deployment(workspace, "c", "c", 4)),
        changed(Deployment(workspace, "d", "d", 5)),
    ]
    assert observed(scripted, workspace).calls == 4
    cancel.cancel()
    assert_cancelled(events)


def test_watch_reloads_when_it_must(scripted: Client, cancel: Cancel) -> None:
    for script in ("resync", "moved", "truncated"):
        workspace = fresh(script)
        with closing(scripted.watch(workspace, Deployment, cancel=cancel)) as events:
            assert list(islice(events, 4)) == [
                loaded(Deployment(workspace, "a", "a", 0)),
                changed(Deployment(workspace, "a", "a", 9)),
                loaded(Deployment(workspace, "b", "b", 7)),
                changed(Deployment(workspace, "c", "c", 8)),
            ]
        assert observed(scripted, workspace).calls == 3


def test_watch_delivers_what_replaced_lost_changes(scripted: Client, cancel: Cancel) -> None:
    workspace = fresh("lost")

    def entity(name: str, version: int) -> Deployment:
        return Deployment(workspace, name, name, version)

    with closing(scripted.watch(workspace, Deployment, cancel=cancel)) as events:
        assert next(events) == loaded(entity("a", 0))
        expected = [entity("z", 1), entity("a", 2), entity("b", 3), entity("a", 4), entity("c", 5), entity("e", 6)]
        # The log lost what was at 4 and above. What it has instead comes, and what it still has does not come again.
        expected += [entity("a", 2), entity("c", 4), entity("e", 60), entity("d", 7)]
        assert list(islice(events, len(expected))) == list(map(changed, expected))
    assert observed(scripted, workspace).calls == 2


def test_watch_reloads_when_a_delivered_entity_is_gone(scripted: Client, cancel: Cancel) -> None:
    workspace = fresh("phantom")
    a, b, c, d, e = (Deployment(workspace, *text) for text in zip("abcde", "abcde", (0, 1, 1, 2, 3), strict=True))
    with closing(scripted.watch(workspace, Deployment, cancel=cancel)) as events:
        assert list(islice(events, 5)) == [loaded(a), changed(b), changed(c), loaded(a, c, d), changed(e)]
    assert observed(scripted, workspace).calls == 4


def test_watch_remembers_ten_thousand_entities(scripted: Client, cancel: Cancel) -> None:
    for count in (10_000, 10_001):
        workspace = fresh(f"many-{count}")
        with closing(scripted.watch(workspace, Deployment, cancel=cancel)) as events:
            assert next(events) == loaded(Deployment(workspace, "a", "a", 0))
            for i in range(1, count + 1):
                assert next(events) == changed(Deployment(workspace, f"x{i}", f"x{i}", i))
            b = Deployment(workspace, "b", "b", count + 1)
            assert next(events) == (changed(b) if count == 10_000 else loaded(b))
        assert observed(scripted, workspace).calls == 2


def test_watch_asks_again_if_a_resumed_call_is_not_answered(scripted: Client, cancel: Cancel) -> None:
    with ThreadPoolExecutor(1) as pool, Client(scripted.address, load_timeout=0.3) as hasty:
        workspace = fresh("mute-9")
        events = hasty.watch(workspace, Deployment, cancel=cancel)
        assert next(events) == loaded(Deployment(workspace, "a", "a", 0))
        # Calls that are never answered end it.
        with pytest.raises(Error) as raised:
            next(events)
        assert (raised.value.code, raised.value.reason) == (StatusCode.DEADLINE_EXCEEDED, "")
        assert observed(scripted, workspace).calls == 3

        workspace = fresh("mute-1")
        events = hasty.watch(workspace, Deployment, cancel=cancel)
        assert next(events) == loaded(Deployment(workspace, "a", "a", 0))
        assert next(events) == changed(Deployment(workspace, "b", "b", 1))
        wait_until(lambda: observed(scripted, workspace).cancelled)
        # After its first message a resumed call has no timeout. One would be noticed while the next event is awaited.
        waiting = pool.submit(assert_cancelled, events)
        time.sleep(0.5)
        calls = observed(scripted, workspace).calls
        cancel.cancel()
        waiting.result(timeout=5)
        assert calls == 3


def test_watch_ends_with_what_does_not_pass(scripted: Client) -> None:
    with Client(scripted.address, load_timeout=0.5) as hasty:
        for script, count, code, reason in (
            ("too-large", 0, StatusCode.RESOURCE_EXHAUSTED, "REPLAY_TOO_LARGE"),
            ("stuck", 2, StatusCode.DEADLINE_EXCEEDED, "DEADLINE"),
        ):
            workspace = fresh(script)
            events = hasty.watch(workspace, Deployment)
            delivered = [loaded(Deployment(workspace, "a", "a", 0)), changed(Deployment(workspace, "b", "b", 1))]
            assert list(islice(events, count)) == delivered[:count]
            with pytest.raises(Error) as raised:
                next(events)
            assert (raised.value.code, raised.value.reason) == (code, reason)
            assert observed(scripted, workspace).calls >= 3
        # But an outage may last.
        workspace = fresh("outage")
        with closing(hasty.watch(workspace, Deployment)) as events:
            assert next(events) == loaded(Deployment(workspace, "a", "a", 0))
        assert observed(scripted, workspace).calls == 4


def test_watch_waits_longer_until_a_later_event(scripted: Client) -> None:
    workspace = fresh("lagging")
    start = time.monotonic()
    # A state ends a row of failures, so the timeout of a load does not end this watch.
    with Client(scripted.address, load_timeout=0.3) as hasty, closing(hasty.watch(workspace, Deployment)) as events:
        assert list(islice(events, 6)) == [loaded(Deployment(workspace, "a", "a", 0))] * 6
        assert next(events) == changed(Deployment(workspace, "b", "b", 1))
        # Five pauses of at most 0.125 s would take 0.6 s.
        assert time.monotonic() - start >= 1
        start = time.monotonic()
        assert next(events) == changed(Deployment(workspace, "c", "c", 2))
        # A pause that is twice as long as the one before would be at least 3.2 s.
        assert time.monotonic() - start < 1.4


def test_a_watch_without_synced_delivers_no_state(scripted: Client, cancel: Cancel) -> None:
    workspace = fresh("unsynced")
    with closing(scripted.watch(workspace, Deployment, cancel=cancel)) as events:
        assert next(events) == loaded(Deployment(workspace, "b", "b", 1))
    assert observed(scripted, workspace).calls == 3


def test_watch_outlives_what_passes(scripted: Client, cancel: Cancel) -> None:
    workspace = fresh("crowded")
    start = time.monotonic()
    events = scripted.watch(workspace, Deployment, cancel=cancel)
    expected = [loaded(Deployment(workspace, "a", "a", 0)), changed(Deployment(workspace, "b", "b", 1))]
    assert list(islice(events, 2)) == expected
    assert time.monotonic() - start > 0.4, "the server asked twice for 200 ms"
    assert observed(scripted, workspace).calls == 5
    cancel.cancel()
    assert_cancelled(events)

    # A state that does not come within its timeout is asked for again.
    workspace = fresh("hang")
    with Client(scripted.address, load_timeout=0.1) as hasty:
        with pytest.raises(Error) as raised:
            next(hasty.watch(workspace, Deployment))
        assert (raised.value.code, raised.value.reason) == (StatusCode.DEADLINE_EXCEEDED, "")
        assert observed(scripted, workspace).calls == 2
    # The changes have no timeout.
    workspace = fresh("unknown-event")
    with Client(scripted.address, load_timeout=0.3) as hasty, closing(hasty.watch(workspace, Deployment)) as events:
        assert list(islice(events, 2))[1] == changed(Deployment(workspace, "b", "b", 1))
        before = observed(scripted, workspace)
        time.sleep(0.4)
        assert observed(scripted, workspace) == before


def test_watch_resumes_after_a_long_outage(scripted: Client, cancel: Cancel) -> None:
    workspace = fresh("unknown-event")
    with Relay(scripted.address) as relay, Client(relay.address, load_timeout=0.3) as hasty:
        events = hasty.watch(workspace, Deployment, cancel=cancel)
        assert list(islice(events, 2))[1] == changed(Deployment(workspace, "b", "b", 1))
        relay.stop()
        again = threading.Timer(1.5, relay.start)
        again.start()
        # The script refuses the call that resumes.
        with pytest.raises(Error) as raised:
            next(events)
        assert raised.value.reason == "TOKEN_INVALID"
        again.join()


class Relay:
    """Carries bytes between its clients and a server, while it is started."""

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self._server = host, int(port)
        self._here = "127.0.0.1", 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._here[1]}"

    def start(self) -> None:
        self._listener = socket.create_server(self._here)
        self._here = self._listener.getsockname()
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, server = listener.accept()[0], socket.create_connection(self._server)
                self._sockets += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)


def test_watch_ends_with_its_client(scripted: Client) -> None:
    workspace = fresh("hang")
    with ThreadPoolExecutor(1) as pool, Client(scripted.address) as client:
        watching = pool.submit(assert_cancelled, client.watch(workspace, Deployment))
        wait_until(lambda: observed(scripted, workspace).calls >= 1)
        client.close()
        watching.result(timeout=5)
        assert_cancelled(client.watch(workspace, Deployment))


def test_a_type_that_is_not_unicode_is_refused_and_leaves_no_thread(scripted: Client) -> None:
    class Torn(Deployment):
        entity_type: ClassVar[str] = "\ud800"

    before = set(threading.enumerate())
    for call in (
        lambda: next(scripted.watch("ws", Torn)),
        lambda: next(scripted.stream(types=[Torn])),
        lambda: scripted.load("ws", Torn),
    ):
        with pytest.raises(ValueError, match="unpaired surrogate"):
            call()
    assert not any(isinstance(thread, threading.Timer) for thread in set(threading.enumerate()) - before)


def test_a_pause_has_a_random_part() -> None:
    # The longer one counts.
    for backoff, asked, least in ((0.1, 0, 0.1), (4, 1, 4), (0.1, 30, 30), (0.1, 3600, 60)):
        pauses = {pause(backoff, asked) for _ in range(100)}
        assert least <= min(pauses) < max(pauses) <= least * 1.25


def test_a_pause_is_as_long_as_the_server_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked, expected in ((30, 30), (100, 60)):
        details = status(packed(ErrorInfo(domain="changelogd", reason="STARTING")), packed(retry(asked)))
        stub = SimpleNamespace(Watch=lambda request, timeout, details=details: Failed(details))
        closed = Cancel()
        pauses: list[float] = []
        wait = Cancel.wait

        def wait_until_closed(self: Cancel, seconds: float) -> None:
            pauses.append(seconds)
            # The close of a client does this. It ends the pause.
            closed.cancel()
            wait(self, seconds)

        with monkeypatch.context() as patch:
            patch.setattr(Cancel, "wait", wait_until_closed)
            assert_cancelled(watch_workspace(stub, "a", [Deployment], 5, closed, Cancel()))
        assert len(pauses) == 1 and expected <= pauses[0] <= expected * 1.25


def retry(seconds: int) -> RetryInfo:
    info = RetryInfo()
    info.retry_delay.FromTimedelta(timedelta(seconds=seconds))
    return info


def test_an_empty_token_changes_nothing() -> None:
    tokens: list[bytes] = []
    cancel = Cancel()

    def watch(request: pb.WatchRequest, timeout: None, wait_for_ready: bool = True) -> Answered:
        tokens.append(request.resume_token)
        if len(tokens) == 3:
            cancel.cancel()
        snapshot = pb.Snapshot() if request.resume_token else pb.Snapshot(resume_token=b"token")
        synced = pb.WatchResponse(synced=pb.Synced(snapshot=snapshot))
        return Answered(synced, pb.WatchResponse(bookmark=pb.Bookmark()))

    stub = SimpleNamespace(Watch=watch)
    events = watch_workspace(stub, "a", [Deployment], 5, Cancel(), cancel)
    assert next(events) == loaded()
    assert_cancelled(events)
    assert tokens == [b"", b"token", b"token"]


def test_watch_ends_with_an_error_that_stays(scripted: Client, cancel: Cancel) -> None:
    workspace = fresh("recreated")
    events = scripted.watch(workspace, Deployment, cancel=cancel)
    assert next(events) == loaded(Deployment(workspace, "a", "a", 0))
    with pytest.raises(Error) as raised:
        next(events)
    assert (raised.value.code, raised.value.reason) == (StatusCode.FAILED_PRECONDITION, "TOPIC_RECREATED")
    assert observed(scripted, workspace).calls == 1
