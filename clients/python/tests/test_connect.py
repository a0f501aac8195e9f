from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from grpc import StatusCode
from support import Deployment, fresh

from changelogd import Client, Error


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
    with Client("", call_timeout=10) as client:
        assert client.get(Deployment, entity.key()) == entity
    with Client("127.0.0.1:1") as client:
        assert client.address == "127.0.0.1:1"
    monkeypatch.setenv("CHANGELOGD_ADDR", "")
    for absent in (None, ""):
        with Client(absent) as client:
            assert client.address == "127.0.0.1:50051"
    monkeypatch.delenv("CHANGELOGD_ADDR")
    with Client() as client:
        assert client.address == "127.0.0.1:50051"


def test_each_client_has_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with ThreadPoolExecutor(2) as pool, Client(address) as one, Client(address) as other:
            # Nothing answers, so the calls end with their clients.
            calls = [pool.submit(client.load, "ws", Deployment) for client in (one, other)]
            connections = [server.accept()[0] for _ in calls]
            one.close()
            other.close()
            for call, connection in zip(calls, connections, strict=True):
                assert isinstance(call.exception(timeout=5), Error)
                connection.close()


def test_a_malformed_address_is_refused() -> None:
    for address in ("http://host:1", "host", "host:", ":1", "host:0", "host:65536", "host:1/a", "::1:1", "unix:", " "):
        with pytest.raises(ValueError, match="not host:port or unix:/path"):
            Client(address)
    for address in ("host:1", "[::1]:1", "unix:/a", "unix:///a"):
        Client(address).close()


def test_a_closed_client_makes_no_calls(embedded: Client) -> None:
    client = Client(embedded.address)
    client.close()
    entity = Deployment(fresh(), "a", "a")
    calls: list[Callable[[], object]] = [
        lambda: client.set(entity),
        lambda: client.get(Deployment, entity.key()),
        client.flush,
        lambda: client.load(entity.workspace, Deployment),
        lambda: next(client.stream()),
        lambda: next(client.watch(entity.workspace, Deployment)),
        client.writer,
    ]
    for call in calls:
        with pytest.raises(Error) as raised:
            call()
        assert raised.value.code is StatusCode.CANCELLED
