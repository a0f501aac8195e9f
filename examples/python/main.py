"""Keeps deployments of a workspace in changelogd: writes, loads, reads records with deletes, and watches for a change.

CHANGELOGD_ADDR is the address of the sidecar, by default 127.0.0.1:50051.
"""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from changelogd import Changed, Client, Key, Loaded, Record, Snapshot


@dataclass(frozen=True)
class Deployment:
    entity_type: ClassVar[str] = "deployment"
    workspace: str
    id: str
    name: str
    version: str

    def key(self) -> Key:
        return Key(self.workspace, self.entity_type, self.id)

    def to_json(self) -> Any:
        return {"name": self.name, "version": self.version}

    @classmethod
    def from_json(cls, key: Key, value: Any) -> Self:
        return cls(key.workspace, key.id, value["name"], value["version"])


def main() -> None:
    workspace = str(uuid.uuid4())
    shop = Deployment(workspace, "dep-1", "shop", "v1.0.0")
    with Client() as client:
        # Write one entity, and wait until the log has it.
        client.set(shop)

        # Write many without waiting for each, and then flush.
        for number in range(2, 5):
            client.set(Deployment(workspace, f"dep-{number}", f"worker-{number}", "v1.0.0"), buffered=True)
        client.delete(Key(workspace, "deployment", "dep-4"), buffered=True)
        flushed = client.flush()
        if flushed.remaining or flushed.failures or flushed.omitted:
            raise SystemExit(f"not all writes are in the log: {flushed}")
        print("flushed")

        # Load the workspace into a map. It is complete, or an error is raised.
        deployments = client.load(workspace, Deployment)
        for id, deployment in sorted(deployments.items()):
            print("loaded", id, deployment.name, deployment.version)

        # Process the records, deletes included.
        state: dict[Key, Deployment] = {}
        for event in client.stream(workspaces=[workspace], types=[Deployment]):
            match event:
                case Record(key, None):
                    print("deleted", key.id)
                    state.pop(key, None)
                case Record(key):
                    state[key] = event.decode(Deployment)
                case Snapshot():
                    print("complete with", len(state), "entities")

        # Watch the workspace: its state, and then each change.
        with closing(client.watch(workspace, Deployment)) as events:
            for watched in events:
                match watched:
                    case Loaded(entities):
                        print("watching", len(entities), "entities")
                        client.set(Deployment(workspace, shop.id, shop.name, "v1.1.0"))
                    case Changed(key, deployment):
                        print("changed", key.id, deployment.name, deployment.version)
                        break


main()
