"""What the tests share: entities, workspaces of their own, and what the scripted server has seen."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

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


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)
