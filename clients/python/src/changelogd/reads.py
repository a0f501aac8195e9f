"""Unary calls, loads and streams. What ends without its Snapshots is an error."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, cast

import grpc
from grpc import StatusCode

from changelogd.cancel import Cancel
from changelogd.entity import E, Entity, Key, Record, check_text, decode
from changelogd.errors import Error, PartialLoadError
from changelogd.v1 import changelog_pb2 as pb


def begin(method: Any, request: Any, timeout: float | None = None) -> Any:
    try:
        return method(request, timeout=timeout)
    except ValueError as error:
        # So the library refuses a call on a closed channel.
        raise Error(StatusCode.CANCELLED, str(error)) from error


def unary(method: Any, request: Any, timeout: float) -> Any:
    try:
        return begin(method, request, timeout)
    except grpc.RpcError as error:
        raise Error.of_call(error) from error


def events(method: Any, request: Any, timeout: float | None, cancel: Cancel | None) -> Generator[Any, None, None]:
    """The messages of a response, each read when the caller asks for it. The call ends with the iterator."""
    call = begin(method, request, timeout)
    with (cancel or Cancel()).attached(call):
        try:
            yield from call
        except grpc.RpcError as error:
            raise Error.of_call(error) from error


def load(stub: Any, workspace: str, entity: type[E], timeout: float, cancel: Cancel | None) -> dict[str, E]:
    check_text(workspace, entity.entity_type)
    request = pb.LoadWorkspaceRequest(workspace_id=workspace, entity_types=[entity.entity_type])
    entities: dict[str, E] = {}
    is_whole = False
    for event in events(stub.LoadWorkspace, request, timeout, cancel):
        match event.WhichOneof("event"):
            case "batch":
                for entry in event.batch.entries:
                    key = Key.parse(entry.key)
                    entities[key.id] = decode(entity, key, entry.raw)
            case "snapshot":
                is_whole = True
    if not is_whole:
        raise PartialLoadError(StatusCode.INTERNAL, f"the load of {workspace!r} ended without its Snapshot")
    return entities


def stream(
    stub: Any,
    workspaces: Sequence[str],
    partitions: Sequence[int],
    types: Sequence[type[Entity]],
    timeout: float,
    cancel: Cancel | None,
) -> Generator[Record | pb.Snapshot, None, None]:
    names = [entity.entity_type for entity in types]
    check_text(*workspaces, *names)
    request = pb.StreamAllRequest(workspace_ids=workspaces, partitions=partitions, entity_types=names)
    complete: set[int] = set()
    end = time.monotonic() + timeout
    for event in events(stub.StreamAll, request, timeout, cancel):
        match event.WhichOneof("event"):
            case "batch":
                yield from map(Record.of, event.batch.entries)
            case "snapshot":
                complete.add(event.snapshot.partition)
                yield event.snapshot


    def describe(workspace: str = "") -> pb.DescribeResponse:
        if cancel is not None:
            cancel.wait(0)
        request = pb.DescribeRequest(workspace_id=workspace)
        return cast(pb.DescribeResponse, unary(stub.Describe, request, max(0.001, end - time.monotonic())))

    if not complete or not _is_whole(describe, complete, workspaces, partitions):
        found = ", ".join(map(str, sorted(complete))) or "no partition"
        raise PartialLoadError(StatusCode.INTERNAL, f"the stream ended with Snapshots of {found} only")


def _is_whole(
    describe: Callable[..., pb.DescribeResponse],
    complete: set[int],
    workspaces: Sequence[str],
    partitions: Sequence[int],
) -> bool:
    """True if each selected partition is one of the complete ones. False if the server does not know it."""
    if len(workspaces) == 1:
        # It has one partition, so the Snapshot that came is its own.
        return True
    if workspaces:
        described = map(describe, workspaces)
        return all(d.HasField("workspace_partition") and d.workspace_partition in complete for d in described)
    if partitions:
        return complete.issuperset(partitions)
    count = describe().partition_count
    return count > 0 and complete.issuperset(range(count))
