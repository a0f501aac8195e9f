from __future__ import annotations

from contextlib import closing
from itertools import islice

import pytest
from grpc import StatusCode
from support import Deployment, Service, fresh, observed

from changelogd import Cancel, Changed, Client, Deleted, Error, Key, Loaded


def loaded(*entities: Deployment) -> Loaded[Deployment]:
    return Loaded({entity.key(): entity for entity in entities})


def changed(entity: Deployment) -> Changed[Deployment]:
    return Changed(entity.key(), entity)


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
    with pytest.raises(Error) as raised:
        next(events)
    assert raised.value.code is StatusCode.CANCELLED


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


def test_follow_ends_with_an_error_that_stays(scripted: Client, cancel: Cancel) -> None:
    workspace = fresh("recreated")
    events = scripted.follow(workspace, Deployment, cancel=cancel)
    assert next(events) == loaded(Deployment(workspace, "a", "a", 0))
    with pytest.raises(Error) as raised:
        next(events)
    assert (raised.value.code, raised.value.reason) == (StatusCode.FAILED_PRECONDITION, "TOPIC_RECREATED")
    # One load and one stream.
    assert observed(scripted, workspace).calls == 2
