from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pytest
from grpc import StatusCode
from support import Deployment, Service, fresh

from changelogd import Client, DecodeError, Error, Key, Record


def test_a_typed_value_is_set_read_and_deleted(both: tuple[Client, ...]) -> None:
    labels = {"nested": [{"deep": [None, True, 0.1]}], "least": -(2**63), "most": 2**63 - 1}
    for client in both:
        set_value = Deployment(fresh(), "a", 'naïve "名前" \\ \x00 \u2028 \U0001f680 \U0010ffff', 2**63 - 1, labels)
        assert client.set(set_value) is not None
        assert client.get(Deployment, set_value.key()) == set_value
        assert client.delete(set_value.key()) is not None
        assert client.get(Deployment, set_value.key()) is None


def test_an_absent_entity_is_no_error(both: tuple[Client, ...]) -> None:
    for client in both:
        key = Key(fresh(), "deployment", "a")
        assert client.get(Deployment, key) is None
        client.delete(key)
        assert client.get(Deployment, key) is None


def test_a_load_is_a_map_of_typed_values(both: tuple[Client, ...]) -> None:
    for client in both:
        workspace = fresh()
        a, b, deleted = (Deployment(workspace, name, name) for name in ("a", "b", "deleted"))
        changed = Deployment(workspace, "a", "a", 2)
        for entity in (a, b, deleted, Service(workspace, "a", "another type"), Deployment(fresh(), "c", "c"), changed):
            client.set(entity)
        client.delete(deleted.key())
        assert client.load(workspace, Deployment) == {"b": b, "a": changed}
        assert client.load(fresh(), Deployment) == {}


@dataclass(frozen=True)
class Listed:
    """Stored as a deployment, but with a list as its value."""

    entity_type: ClassVar[str] = "deployment"
    workspace: str

    def key(self) -> Key:
        return Key(self.workspace, self.entity_type, "listed")

    def to_json(self) -> Any:
        return ["a", "list"]

    @classmethod
    def from_json(cls, key: Key, value: Any) -> Self:
        raise NotImplementedError("it is read as a deployment")


def test_a_value_of_another_form_is_an_error_with_its_key(embedded: Client) -> None:
    listed = Listed(fresh())
    embedded.set(Deployment(listed.workspace, "a", "a"))
    embedded.set(listed)
    reads: list[Callable[[], object]] = [
        lambda: embedded.load(listed.workspace, Deployment),
        lambda: embedded.get(Deployment, listed.key()),
        lambda: list(embedded.watch(listed.workspace, Deployment)),
    ]
    for read in reads:
        with pytest.raises(DecodeError, match=f"{listed.workspace}/deployment/listed") as raised:
            read()
        assert raised.value.key == listed.key()
        assert isinstance(raised.value.__cause__, TypeError)


def test_a_key_is_split(both: tuple[Client, ...]) -> None:
    key = Key.parse("ws/type/a/b")
    assert (key.workspace, key.type, key.id, str(key)) == ("ws", "type", "a/b", "ws/type/a/b")
    for wrong in ("", "ws", "ws/type", "/type/id", "ws//id", "ws/type/"):
        with pytest.raises(ValueError, match="not a key"):
            Key.parse(wrong)
    # Joined, these would be split in another place.
    for workspace, type_ in (("ws/type", "a"), ("ws", "type/a")):
        with pytest.raises(ValueError, match="slash"):
            Key(workspace, type_, "b")
    # UTF-8 has no unpaired surrogates.
    half = "\ud800"
    for parts in ((half, "a", "b"), ("ws", half, "b"), ("ws", "a", half)):
        with pytest.raises(ValueError, match="surrogate"):
            Key(*parts)
    for client in both:
        reads: list[Callable[[], object]] = [
            lambda: client.load(half, Deployment),
            lambda: next(client.stream(workspaces=["ws", half])),
            lambda: next(client.watch(half, Deployment)),
        ]
        for read in reads:
            with pytest.raises(ValueError, match="surrogate"):
                read()
        entity = Deployment(fresh(), "a/b", "a")
        client.set(entity)
        assert client.load(entity.workspace, Deployment) == {"a/b": entity}
        record = next(client.stream(workspaces=[entity.workspace]))
        assert isinstance(record, Record)
        assert record.key == Key(entity.workspace, "deployment", "a/b")
        assert record.decode(Deployment) == entity


def test_an_invalid_key_is_refused_with_its_field(both: tuple[Client, ...]) -> None:
    for client in both:
        wrong = [(Deployment("", "a", "a"), "workspace_id"), (Deployment(fresh(), "", "a"), "changelog_id")]
        for entity, field in wrong:
            calls: list[Callable[[], object]] = [
                lambda: client.set(entity),
                lambda: client.delete(entity.key()),
                lambda: client.get(Deployment, entity.key()),
            ]
            for call in calls:
                with pytest.raises(Error) as raised:
                    call()
                error = raised.value
                assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "KEY_INVALID")
                assert (error.field, error.is_safe_to_retry) == (field, False)
