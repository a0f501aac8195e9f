from __future__ import annotations

import pytest
from support import Deployment, fresh

from changelogd import Client


def test_a_unix_socket_works(unix_socket: str) -> None:
    entity = Deployment(fresh(), "a", "a")
    with Client(f"unix:{unix_socket}", call_timeout=10) as client:
        client.set(entity)
        assert client.get(Deployment, entity.key()) == entity


def test_changelogd_addr_names_the_server(embedded: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    entity = Deployment(fresh(), "a", "a")
    embedded.set(entity)
    monkeypatch.setenv("CHANGELOGD_ADDR", embedded.address)
    with Client(call_timeout=10) as client:
        assert client.get(Deployment, entity.key()) == entity
    with Client("127.0.0.1:1") as client:
        assert client.address == "127.0.0.1:1"
    monkeypatch.delenv("CHANGELOGD_ADDR")
    with Client() as client:
        assert client.address == "127.0.0.1:50051"
