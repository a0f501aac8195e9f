"""Errors of calls, of verdicts and of buffered writes. Decide by `code` and `reason`, and do not parse messages."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import timedelta
from typing import Self, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc import StatusCode
from grpc_status import rpc_status

from changelogd.v1 import changelog_pb2 as pb

_DOMAIN = "changelogd"
_CODES = {code.value[0]: code for code in StatusCode}
_SAFE_CODES = {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.ABORTED}


# Without eq, because an exception must be hashable.
@dataclass(eq=False)
class Error(Exception):
    """A failed call or write.

    `reason` is empty if the error does not come from changelogd. It then comes from a library or a proxy.
    `field` is the wrong field of the request, or empty. `retry_after` is None if waiting does not help.
    """

    code: StatusCode
    message: str
    reason: str = ""
    field: str = ""
    retry_after: timedelta | None = None
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join(filter(None, (self.code.name, self.reason))) + f": {self.message}"

    @property
    def is_safe_to_retry(self) -> bool:
        """True if nothing was written. A read may be repeated after other errors too."""
        if self.code is StatusCode.DEADLINE_EXCEEDED:
            return self.reason == "DEADLINE"
        return bool(self.reason) and self.code in _SAFE_CODES

    @classmethod
    def of_call(cls, error: grpc.RpcError) -> Self:
        # Each error that a stub raises is the call too.
        call = cast(grpc.Call, error)
        return cls(call.code(), call.details() or "", *_facts(call))

    @classmethod
    def of_message(cls, error: pb.Error) -> Self:
        code = _CODES.get(error.code, StatusCode.UNKNOWN)
        delay = error.retry_after.ToTimedelta() if error.HasField("retry_after") else None
        return cls(code, error.message, error.reason, error.field, delay, dict(error.metadata))


class PartialLoadError(Error):
    """A load or a stream ended with OK, but without the Snapshot that proves it complete. It may be repeated."""


def _facts(call: grpc.Call) -> tuple[str, str, timedelta | None, dict[str, str]]:
    """The facts in the details that changelogd sent. Those of others, and what can't be read, count as none."""
    nothing = ("", "", None, dict[str, str]())
    info, request, retry = ErrorInfo(), BadRequest(), RetryInfo()
    try:
        status = rpc_status.from_call(call)
        for detail in status.details if status else ():
            for message in (info, request, retry):
                detail.Unpack(message)
        delay = retry.retry_delay.ToTimedelta() if retry.HasField("retry_delay") else None
    except (ValueError, OverflowError, DecodeError):
        return nothing
    if info.domain != _DOMAIN or not info.reason:
        return nothing
    field = request.field_violations[0].field if request.field_violations else ""
    return info.reason, field, delay, dict(info.metadata)
