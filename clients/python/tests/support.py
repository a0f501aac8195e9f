"""What the tests share: entities, workspaces of their own, calls, and what the scripted server has seen."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import grpc
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc import StatusCode

from changelogd import Client, Key


@dataclass(frozen=True)
class Deployment:
    entity_type: ClassVar[str] = "deployment"
    workspace: str
    id: str
    name: str
    version: int = 1
    labels: dict[str, Any] = field(default_factory=dict)

    def key(self) -> Key:
        return Key(self.workspace, self.entity_type, self.id)

    def to_json(self) -> Any:
        return {"name": self.name, "version": self.version, "labels": self.labels}

    @classmethod
    def from_json(cls, key: Key, value: Any) -> Self:
        return cls(key.workspace, key.id, **value)


@dataclass(frozen=True)
class Service(Deployment):
    entity_type: ClassVar[str] = "service"


@dataclass(frozen=True)
class Observed:
    """What the scripted server has seen of a workspace."""

    entity_type: ClassVar[str] = "observed"
    workspace: str
    calls: int
    timeoutMs: int
    cancelled: bool
    messages: int
    mostMutations: int
    mostBytes: int

    def key(self) -> Key:
        return Key(self.workspace, self.entity_type, "calls")

    def to_json(self) -> Any:
        raise NotImplementedError("only the server makes it")

    @classmethod
    def from_json(cls, key: Key, value: Any) -> Self:
        return cls(key.workspace, **value)


def observed(client: Client, workspace: str) -> Observed:
    found = client.get(Observed, Key(workspace, "observed", "calls"))
    assert found is not None
    return found


def fresh(script: str = "test") -> str:
    """A workspace that no other test has."""
    return f"{script}.{uuid.uuid4()}"


class Answered:
    """A call that ends with OK after these responses."""

    def __init__(self, *responses: object) -> None:
        self._responses = responses

    def __iter__(self) -> Iterator[object]:
        return iter(self._responses)

    def cancel(self) -> None:
        pass


class Failed(grpc.RpcError):
    """A failed call with these details."""

    def __init__(self, details: bytes) -> None:
        self._details = details

    def code(self) -> StatusCode:
        return StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "no"

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", self._details),)

    def __iter__(self) -> Iterator[object]:
        raise self

    def cancel(self) -> None:
        pass


def status(*details: any_pb2.Any, code: int = 14) -> bytes:
    return bytes(status_pb2.Status(code=code, message="no", details=details).SerializeToString())


def packed(message: Any) -> any_pb2.Any:
    detail = any_pb2.Any()
    detail.Pack(message)
    return detail


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)
