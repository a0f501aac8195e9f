from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from itertools import islice
from types import SimpleNamespace

import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc import StatusCode
from support import Answered, Deployment, Failed, Service, fresh, observed, packed, status, wait_until

from changelogd import Cancel, Changed, Client, Deleted, Error, Key, Loaded
from changelogd.follow import follow_workspace
from changelogd.v1 import changelog_pb2 as pb


def loaded(*entities: Deployment) -> Loaded[Deployment]:
    return Loaded({entity.key(): entity for entity in entities})


def changed(entity: Deployment) -> Changed[Deployment]:
    return Changed(entity.key(), entity)


def assert_cancelled(events: Iterator[object]) -> None:
    with pytest.raises(Error) as raised:
        next(events)
    assert raised.value.code is StatusCode.CANCELLED


def test_follow_loads_and_then_delivers_changes(both: tuple[Client, ...], cancel: Cancel) -> None:
    for client in both:
        workspace = fresh()
        a, b, s = Deployment(workspace, "a", "a"), Deployment(workspace, "b", "b"), Service(workspace, "a", "s")
        for entity in (a, b, s, Deployment(fresh(), "x", "of another workspace")):
            client.set(entity)
        with closing(client.follow(workspace, Deployment, Service, cancel=cancel)) as events:
            assert next(events) == loaded(a, b, s)
            newer, c = Deployment(workspace, "a", "a", 2), Deployment(workspace, "c", "c")
            client.set(newer)
            client.delete(b.key())
            client.set(c)
            assert list(islice(events, 3)) == [changed(newer), Deleted(b.key()), changed(c)]


def test_follow_resumes_after_a_broken_stream(scripted: Client, cancel: Cancel) -> None:
    workspace = fresh("resume")
    events = scripted.follow(workspace, Deployment, cancel=cancel)
    assert list(islice(events, 4)) == [
        loaded(Deployment(workspace, "a", "a", 0)),
        changed(Deployment(workspace, "a", "a", 1)),
        changed(Deployment(workspace, "b", "b", 2)),
        Deleted(Key(workspace, "deployment", "a")),
    ]
    # One load and two streams.
    assert observed(scripted, workspace).calls == 3
    cancel.cancel()
    assert_cancelled(events)


def test_follow_reloads_when_it_must(scripted: Client, cancel: Cancel) -> None:
    for script in ("resync", "moved", "truncated"):
        workspace = fresh(script)
        with closing(scripted.follow(workspace, Deployment, cancel=cancel)) as events:
            assert list(islice(events, 3)) == [
                loaded(Deployment(workspace, "a", "a", 0)),
                loaded(Deployment(workspace, "b", "b", 7)),
                changed(Deployment(workspace, "c", "c", 8)),
            ]
        assert observed(scripted, workspace).calls == 4


def test_follow_outlives_what_passes(scripted: Client, cancel: Cancel) -> None:
    workspace = fresh("crowded")
    start = time.monotonic()
    events = scripted.follow(workspace, Deployment, cancel=cancel)
    expected = [loaded(Deployment(workspace, "a", "a", 0)), changed(Deployment(workspace, "b", "b", 1))]
    assert list(islice(events, 2)) == expected
    assert time.monotonic() - start > 0.4, "the server asked twice for 200 ms"
    # Two loads and four streams.
    assert observed(scripted, workspace).calls == 6
    cancel.cancel()
    assert_cancelled(events)

    # A load that reached its timeout is made again, until the client is closed.
    workspace = fresh("hang")
    with ThreadPoolExecutor(1) as pool, Client(scripted.address, load_timeout=0.2) as hasty:
        following = pool.submit(assert_cancelled, hasty.follow(workspace, Deployment))
        wait_until(lambda: observed(scripted, workspace).calls >= 2)
        hasty.close()
        following.result(timeout=5)
        assert_cancelled(hasty.follow(workspace, Deployment))


def test_a_pause_is_as_long_as_the_server_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked, expected in ((30, 30), (100, 60)):
        details = status(packed(ErrorInfo(domain="changelogd", reason="STARTING")), packed(retry(asked)))
        stub = SimpleNamespace(LoadWorkspace=lambda request, timeout, details=details: Failed(details))
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
            assert_cancelled(follow_workspace(stub, "a", [Deployment], 5, closed, Cancel()))
        assert pauses == [expected]


def retry(seconds: int) -> RetryInfo:
    info = RetryInfo()
    info.retry_delay.FromTimedelta(timedelta(seconds=seconds))
    return info


def test_an_empty_token_changes_nothing() -> None:
    tokens: list[bytes] = []
    cancel = Cancel()

    def stream(request: pb.StreamAllRequest, timeout: None) -> Answered:
        tokens.append(request.resume_token)
        if len(tokens) == 2:
            cancel.cancel()
        bookmark, snapshot = pb.Bookmark(), pb.Snapshot()
        return Answered(pb.StreamAllResponse(bookmark=bookmark), pb.StreamAllResponse(snapshot=snapshot))

    load = pb.LoadWorkspaceResponse(snapshot=pb.Snapshot(resume_token=b"token", end_offset=1))
    stub = SimpleNamespace(LoadWorkspace=lambda request, timeout: Answered(load), StreamAll=stream)
    events = follow_workspace(stub, "a", [Deployment], 5, Cancel(), cancel)
    assert next(events) == loaded()
    assert_cancelled(events)
    assert tokens == [b"token", b"token"]


def test_follow_ends_with_an_error_that_stays(scripted: Client, cancel: Cancel) -> None:
    workspace = fresh("recreated")
    events = scripted.follow(workspace, Deployment, cancel=cancel)
    assert next(events) == loaded(Deployment(workspace, "a", "a", 0))
    with pytest.raises(Error) as raised:
        next(events)
    assert (raised.value.code, raised.value.reason) == (StatusCode.FAILED_PRECONDITION, "TOPIC_RECREATED")
    # One load and one stream.
    assert observed(scripted, workspace).calls == 2
