"""The client of changelogd: keeps the state of workspaces, and loads it completely or fails.

Does not: keep a copy of the state, or write in the background. A `Writer` has a thread, and `close` ends it. `watch`
has one until its state has come.
"""

from changelogd.cancel import Cancel
from changelogd.client import Client, FailedWrite, Flushed
from changelogd.entity import DecodeError, Entity, Key, Record
from changelogd.errors import Error, PartialLoadError
from changelogd.v1.changelog_pb2 import Position, Snapshot
from changelogd.watch import Changed, Deleted, Event, Loaded
from changelogd.writer import Writer

__all__ = [
    "Cancel",
    "Changed",
    "Client",
    "DecodeError",
    "Deleted",
    "Entity",
    "Error",
    "Event",
    "FailedWrite",
    "Flushed",
    "Key",
    "Loaded",
    "PartialLoadError",
    "Position",
    "Record",
    "Snapshot",
    "Writer",
]
