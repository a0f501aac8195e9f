"""Keys, entities with their values, and records.

Values are JSON documents. Does not: check the grammar of keys, which the server does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol, Self, TypeVar

from changelogd.v1 import changelog_pb2 as pb

E = TypeVar("E", bound="Entity")


@dataclass(frozen=True, order=True, slots=True)
class Key:
    """`{workspace}/{type}/{id}`. Only the ID may contain slashes.

    Raises ValueError of another slash, or of an unpaired surrogate. What else is wrong with a key, the server says.
    """

    workspace: str
    type: str
    id: str

    def __post_init__(self) -> None:
        # Joined, it would be the key of another entity.
        if "/" in self.workspace or "/" in self.type:
            raise ValueError(f"the workspace or the type contains a slash: {self!r}")
        check_text(self.workspace, self.type, self.id)

    def __str__(self) -> str:
        return f"{self.workspace}{self.changelog_id}"

    @property
    def changelog_id(self) -> str:
        """The part after the workspace, as the API takes it."""
        return f"/{self.type}/{self.id}"

    @classmethod
    def parse(cls, key: str) -> Key:
        """Splits a full key. Raises ValueError if a part is missing or empty."""
        parts = key.split("/", 2)
        if len(parts) < 3 or not all(parts):
            raise ValueError(f"not a key of the form workspace/type/id: {key!r}")
        return cls(*parts)


def check_text(*texts: str) -> None:
    """Raises ValueError of an unpaired surrogate, because UTF-8 has none."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"not valid Unicode, because of an unpaired surrogate: {text!r}") from error


class Entity(Protocol):
    """An entity that knows its key. A class with these members needs no base class."""

    entity_type: ClassVar[str]

    def key(self) -> Key: ...

    def to_json(self) -> Any:
        """The value as `json.dumps` takes it. The key is stored too, so its parts may be left out."""

    @classmethod
    def from_json(cls, key: Key, value: Any) -> Self:
        """Makes the entity of its key, and of its value as `json.loads` returns it."""


class DecodeError(ValueError):
    """A stored value is not of the form that its type expects. The cause says why."""

    def __init__(self, key: Key) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"the value of {self.key} can't be decoded"


def encode(entity: Entity) -> bytes:
    # UTF-8 and no NaN: other languages read the value too.
    text = json.dumps(entity.to_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def decode(entity: type[E], key: Key, value: bytes) -> E:
    try:
        return entity.from_json(key, json.loads(value))
    # from_json is the caller's code, so it may raise anything. Without the key, the error would be of little use.
    except Exception as error:
        raise DecodeError(key) from error


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the log. The value of a tombstone, which deletes the entity, is None."""

    key: Key
    value: bytes | None
    partition: int
    offset: int
    timestamp: datetime | None

    @classmethod
    def of(cls, entry: pb.Entry) -> Record:
        timestamp = entry.timestamp.ToDatetime(UTC) if entry.HasField("timestamp") else None
        value = None if entry.is_tombstone else entry.raw
        return cls(Key.parse(entry.key), value, entry.partition, entry.offset, timestamp)

    def decode(self, entity: type[E]) -> E:
        """The entity. Raises ValueError of a tombstone, and DecodeError if the value has another form."""
        if self.value is None:
            raise ValueError(f"a tombstone has no value: {self.key}")
        return decode(entity, self.key, self.value)
