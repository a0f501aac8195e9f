from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from changelogd import Cancel, Client


def variable(name: str) -> str:
    value = os.environ.get(name)
    # Never a skip: a run without the server would look like one that passes.
    assert value, f"{name} is not set"
    return value


def client_of(name: str) -> Iterator[Client]:
    # Short, so that a test that hangs fails.
    with Client(variable(name), call_timeout=10, load_timeout=10) as client:
        yield client


@pytest.fixture(scope="session")
def embedded() -> Iterator[Client]:
    yield from client_of("CHANGELOGD_TEST_EMBEDDED")


@pytest.fixture(scope="session")
def kafka() -> Iterator[Client]:
    yield from client_of("CHANGELOGD_TEST_ON_KAFKA")


@pytest.fixture(scope="session")
def scripted() -> Iterator[Client]:
    yield from client_of("CHANGELOGD_TEST_SCRIPTED")


@pytest.fixture(scope="session")
def both(embedded: Client, kafka: Client) -> tuple[Client, ...]:
    return embedded, kafka


@pytest.fixture(scope="session")
def unix_socket() -> str:
    return variable("CHANGELOGD_TEST_UNIX")


@pytest.fixture
def cancel() -> Iterator[Cancel]:
    """Ends what has no deadline, so that a test that hangs fails."""
    cancel = Cancel()
    timer = threading.Timer(10, cancel.cancel)
    timer.start()
    yield cancel
    cancel.cancel()
    timer.cancel()
    timer.join()
