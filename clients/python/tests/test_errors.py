from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode
from support import Deployment, Failed, fresh, observed, packed, status

from changelogd import Client, Error


def set_error(client: Client, script: str) -> Error:
    with pytest.raises(Error) as raised:
        client.set(Deployment(fresh(script), "a", "a"))
    return raised.value


def verdict_error(client: Client, script: str) -> Error:
    with client.writer() as writer:
        error = writer.set(Deployment(fresh(script), "a", "a")).exception(timeout=5)
    assert isinstance(error, Error)
    return error


def test_an_error_has_its_facts(scripted: Client) -> None:
    for script, facts in (
        (
            "busy",
            (
                StatusCode.RESOURCE_EXHAUSTED,
                "PRODUCER_QUEUE_FULL",
                "the queue is full",
                "",
                timedelta(seconds=1.5),
                {"limit": "1000"},
            ),
        ),
        (
            "refused",
            (StatusCode.INVALID_ARGUMENT, "VALUE_TOO_LARGE", "too large", "raw", None, {"limit": "10", "got": "11"}),
        ),
    ):
        for error in (set_error(scripted, script), verdict_error(scripted, script)):
            for found in (error, pickle.loads(pickle.dumps(error))):
                assert (
                    found.code,
                    found.reason,
                    found.message,
                    found.field,
                    found.retry_after,
                    found.metadata,
                ) == facts
    assert str(set_error(scripted, "busy")) == "RESOURCE_EXHAUSTED PRODUCER_QUEUE_FULL: the queue is full"

    # Details that can't be read, or that are not changelogd's, count as none.
    ours = error_details_pb2.ErrorInfo(domain="changelogd", reason="STARTING")
    cut = packed(error_details_pb2.RetryInfo())
    cut.value = b"\xff"
    assert Error.of_call(Failed(status(packed(ours)))).is_safe_to_retry
    without_reason = status(packed(error_details_pb2.ErrorInfo(domain="changelogd")))
    ours.domain = "proxy.example"
    for details in (b"\xff", status(packed(ours)), without_reason, status(cut), status(code=13)):
        error = Error.of_call(Failed(details))
        assert (error.code, error.message, error.reason) == (StatusCode.UNAVAILABLE, "no", "")
        assert not error.is_safe_to_retry


def test_safe_to_retry_follows_the_status_table(scripted: Client) -> None:
    safe = ["14-STARTING", "8-MEMORY_LIMIT", "10-LOG_MOVED", "4-DEADLINE"]
    # The last one has an ErrorInfo, but no reason.
    without_info = [*map(str, range(1, 17)), "14-"]
    others = [f"{code}-DEADLINE" for code in range(1, 17) if code not in (4, 8, 10, 14)]
    unknown = ["4-OUTCOME_UNKNOWN", "2-OUTCOME_UNKNOWN"]
    scripts = [f"status-{status}" for status in (*safe, *without_info, *others, *unknown)]
    # At the same time, because UNAVAILABLE is retried for a second or two.
    with ThreadPoolExecutor(len(scripts)) as pool:
        errors = dict(zip(scripts, pool.map(lambda script: set_error(scripted, script), scripts), strict=True))
    codes = {script: error.code.value[0] for script, error in errors.items()}
    assert codes == {script: int(script.split("-")[1]) for script in scripts}
    assert [script for script, error in errors.items() if error.is_safe_to_retry] == [f"status-{name}" for name in safe]


def test_unavailable_is_retried(scripted: Client) -> None:
    # The library repeats no request above 256 KiB, unless the limit is raised.
    for name in ("a", "x" * 300_000):
        entity = Deployment(fresh("starting"), "a", name)
        assert scripted.set(entity) is not None
        assert observed(scripted, entity.workspace).calls == 3


def test_an_unknown_outcome_is_not_retried(scripted: Client) -> None:
    entity = Deployment(fresh("unknown"), "a", "a")
    with pytest.raises(Error) as raised:
        scripted.set(entity)
    error = raised.value
    assert (error.code, error.reason) == (StatusCode.DEADLINE_EXCEEDED, "OUTCOME_UNKNOWN")
    assert not error.is_safe_to_retry
    assert observed(scripted, entity.workspace).calls == 1


def test_the_deadline_is_passed_on(scripted: Client) -> None:
    with Client(scripted.address, call_timeout=0.3, load_timeout=0.4) as hasty:
        entity = Deployment(fresh("hang"), "a", "a")
        calls: list[tuple[float, Callable[[], object]]] = [
            (0.5, lambda: scripted.set(entity, timeout=0.5)),
            (0.5, lambda: scripted.load(entity.workspace, Deployment, timeout=0.5)),
            (0.3, lambda: hasty.set(entity)),
            (0.4, lambda: hasty.load(entity.workspace, Deployment)),
        ]
        for seconds, call in calls:
            start = time.monotonic()
            with pytest.raises(Error) as raised:
                call()
            assert seconds - 0.05 < time.monotonic() - start < seconds + 2
            # The library ended the call, so nothing is known.
            assert (raised.value.code, raised.value.reason) == (StatusCode.DEADLINE_EXCEEDED, "")
            # The library rounds up to 10 ms.
            assert seconds * 500 < observed(scripted, entity.workspace).timeoutMs <= seconds * 1_000 + 10
