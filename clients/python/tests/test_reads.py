from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import pytest
from grpc import StatusCode
from support import Answered, Deployment, Service, fresh, observed, wait_until

from changelogd import Cancel, Changed, Client, Error, Key, Loaded, PartialLoadError, Record, Snapshot, reads
from changelogd.v1 import changelog_pb2 as pb


def test_a_partial_load_is_an_error(scripted: Client) -> None:
    with pytest.raises(PartialLoadError, match="Snapshot") as partial:
        scripted.load(fresh("partial"), Deployment)
    assert (partial.value.reason, partial.value.is_safe_to_retry) == ("", False)
    with pytest.raises(Error) as broken:
        scripted.load(fresh("broken"), Deployment)
    assert (broken.value.code, broken.value.is_safe_to_retry) == (StatusCode.INTERNAL, False)


def test_an_unknown_event_is_ignored(scripted: Client, cancel: Cancel) -> None:
    workspace = fresh("unknown-event")
    a, b = Deployment(workspace, "a", "a", 0), Deployment(workspace, "b", "b", 1)
    assert scripted.load(workspace, Deployment) == {"a": a}
    with closing(scripted.watch(workspace, Deployment, cancel=cancel)) as events:
        assert [next(events), next(events)] == [Loaded({a.key(): a}), Changed(b.key(), b)]


def test_cancel_stops_a_load(scripted: Client, cancel: Cancel) -> None:
    workspace = fresh("hang")
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(scripted.load, workspace, Deployment, cancel=cancel)
        wait_until(lambda: observed(scripted, workspace).calls == 1)
        assert not observed(scripted, workspace).cancelled
        start = time.monotonic()
        cancel.cancel()
        # The second call begins after the cancel.
        calls: list[Callable[[], object]] = [
            load.result,
            lambda: scripted.load(workspace, Deployment, cancel=cancel),
        ]
        for call in calls:
            with pytest.raises(Error) as raised:
                call()
            assert raised.value.code is StatusCode.CANCELLED
        assert time.monotonic() - start < 1
    wait_until(lambda: observed(scripted, workspace).cancelled)


def test_a_stream_has_tombstones_and_snapshots(both: tuple[Client, ...], scripted: Client) -> None:
    for client in both:
        workspace, second = fresh(), fresh()
        kept, deleted = Deployment(workspace, "kept", "kept"), Key(workspace, "deployment", "deleted")
        for entity in (kept, Deployment(workspace, "deleted", "deleted"), Service(workspace, "s", "s")):
            client.set(entity)
        client.delete(deleted)
        client.set(Deployment(second, "a", "a"))

        *records, snapshot = client.stream(workspaces=[workspace], types=[Deployment])
        assert isinstance(snapshot, Snapshot)
        # A store may have removed the value that the delete supersedes.
        latest = {record.key: record for record in records if isinstance(record, Record)}
        assert latest.keys() == {kept.key(), deleted}
        assert latest[kept.key()].decode(Deployment) == kept
        assert latest[deleted].value is None
        with pytest.raises(ValueError, match="tombstone"):
            latest[deleted].decode(Deployment)
        offsets = [record.offset for record in records if isinstance(record, Record)]
        assert offsets == sorted(offsets)
        assert len(offsets) == len(records), "there is one Snapshot, and it is the last event"
        assert {record.partition for record in latest.values()} == {snapshot.partition}

        # Each selection ends with the Snapshots of its partitions, or it would raise.
        two = list(client.stream(workspaces=[workspace, second]))
        assert {event.key.workspace for event in two if isinstance(event, Record)} == {workspace, second}
        one = list(client.stream(partitions=[snapshot.partition]))
        assert [event.partition for event in one if isinstance(event, Snapshot)] == [snapshot.partition]
        complete = [event.partition for event in client.stream() if isinstance(event, Snapshot)]
        assert sorted(complete) == list(range(len(complete)))
        assert snapshot.partition in complete

    for script, expected in (("partial", PartialLoadError), ("broken", Error)):
        with pytest.raises(expected):
            list(scripted.stream(workspaces=[fresh(script)]))

    # What the server does not know can't be complete.
    known = pb.DescribeResponse(partition_count=1, workspace_partition=0)
    answer = pb.StreamAllResponse(snapshot=pb.Snapshot(partition=0))
    selections: list[list[str]] = [[], ["a", "b"]]
    for description, is_complete in ((known, True), (pb.DescribeResponse(), False)):
        stub = SimpleNamespace(
            StreamAll=lambda request, timeout: Answered(answer),
            Describe=lambda request, timeout, description=description: description,
        )
        for workspaces in selections:
            stream = reads.stream(stub, workspaces, (), (), 5, None)
            assert next(stream) == answer.snapshot
            with pytest.raises(StopIteration if is_complete else PartialLoadError):
                next(stream)
