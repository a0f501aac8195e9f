"""Unary calls, loads and streams. What ends without its Snapshots is an error."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import grpc
from grpc import StatusCode

from changelogd.cancel import Cancel
from changelogd.entity import E, Entity, Key, Record, decode
from changelogd.errors import Error, PartialLoadError
from changelogd.v1 import changelog_pb2 as pb


def unary(method: Any, request: Any, timeout: float) -> Any:
    try:
        return method(request, timeout=timeout)
    except grpc.RpcError as error:
        raise Error.of_call(error) from error


def events(method: Any, request: Any, timeout: float | None, cancel: Cancel | None) -> Generator[Any, None, None]:
    """The messages of a response, each read when the caller asks for it. The call ends with the iterator."""
    call = method(request, timeout=timeout)
    with (cancel or Cancel()).attached(call):
        try:
            yield from call
        except grpc.RpcError as error:
            raise Error.of_call(error) from error


def load(
    stub: Any, workspace: str, types: Sequence[type[E]], timeout: float, cancel: Cancel | None
) -> tuple[dict[Key, E], pb.Snapshot]:
    by_name = {entity.entity_type: entity for entity in types}
    request = pb.LoadWorkspaceRequest(workspace_id=workspace, entity_types=by_name)
    entities: dict[Key, E] = {}
    snapshot = None
    for event in events(stub.LoadWorkspace, request, timeout, cancel):
        match event.WhichOneof("event"):
            case "batch":
                for entry in event.batch.entries:
                    key = Key.parse(entry.key)
                    entities[key] = decode(by_name[key.type], key, entry.raw)
            case "snapshot":
                snapshot = event.snapshot
    if snapshot is None:
        raise PartialLoadError(StatusCode.INTERNAL, f"the load of {workspace!r} ended without its Snapshot")
    return entities, snapshot


def stream(
    stub: Any,
    workspaces: Sequence[str],
    partitions: Sequence[int],
    types: Sequence[type[Entity]],
    timeout: float,
    cancel: Cancel | None,
) -> Generator[Record | pb.Snapshot, None, None]:
    request = pb.StreamAllRequest(
        workspace_ids=workspaces, partitions=partitions, entity_types=[entity.entity_type for entity in types]
    )
    complete = set()
    for event in events(stub.StreamAll, request, timeout, cancel):
        match event.WhichOneof("event"):
            case "batch":
                yield from map(Record.of, event.batch.entries)
            case "snapshot":
                complete.add(event.snapshot.partition)
                yield event.snapshot
    if not complete or not complete >= _selected(stub, workspaces, partitions, timeout):
        found = ", ".join(map(str, sorted(complete))) or "no partition"
        raise PartialLoadError(StatusCode.INTERNAL, f"the stream ended with Snapshots of {found} only")


def _selected(stub: Any, workspaces: Sequence[str], partitions: Sequence[int], timeout: float) -> set[int]:
    """The partitions that must have a Snapshot."""
    if len(workspaces) == 1:
        # It has one partition, so the Snapshot that came is its own.
        return set()
    if workspaces:
        described = (unary(stub.Describe, pb.DescribeRequest(workspace_id=w), timeout) for w in workspaces)
        return {description.workspace_partition for description in described}
    if partitions:
        return set(partitions)
    return set(range(unary(stub.Describe, pb.DescribeRequest(), timeout).partition_count))
