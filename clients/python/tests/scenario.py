"""Makes the calls of a file with the generated client, and prints what each of them got.

Both have one line of JSON for each call. ../../BEHAVIOUR.md describes them.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, cast

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from changelogd.v1 import changelog_pb2 as pb
from changelogd.v1 import changelog_pb2_grpc as pb_grpc

Json = dict[str, Any]

_METHODS = pb.DESCRIPTOR.services_by_name["ChangelogService"].methods_by_name
_OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # The answer of the ping itself. The library would wait for it for a minute.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Else channels with the same options and address share a connection.
    ("grpc.use_local_subchannel_pool", 1),
]


def main(path: str) -> None:
    # A server sees that a call was cancelled, and not that its connection was closed: all stay open up to the end.
    with open(path, encoding="utf-8") as calls, ExitStack() as connections:
        for line in calls:
            step = json.loads(line)
            channel = connections.enter_context(grpc.insecure_channel(step["address"], options_of(step)))
            print(json.dumps(answer_of(step, channel)), flush=True)


def options_of(step: Json) -> list[tuple[str, int]]:
    most = step.get("maxMessageBytes")
    return _OPTIONS if most is None else [*_OPTIONS, ("grpc.max_receive_message_length", most)]


def answer_of(step: Json, channel: grpc.Channel) -> Json:
    answer: Json = {"name": step["name"], "code": 0, "message": "", "error": None, "responses": []}
    try:
        make(step, channel, answer["responses"])
    except grpc.RpcError as error:
        # Each error that a stub raises is the call too.
        call = cast(grpc.Call, error)
        answer |= {"code": call.code().value[0], "message": call.details() or "", "error": details(call)}
    return answer


def make(step: Json, channel: grpc.Channel, responses: list[Json]) -> None:
    method = _METHODS[step["call"]]
    request_class = GetMessageClass(method.input_type)
    requests = [json_format.ParseDict(request, request_class()) for request in step["requests"]]
    function: Callable[..., Any] = getattr(pb_grpc.ChangelogServiceStub(channel), step["call"])
    options = {
        "timeout": step["timeoutMs"] / 1000,
        "compression": grpc.Compression.Gzip if step["gzip"] else None,
    }
    if method.client_streaming:
        call = send_all(function, requests, options)
    elif method.server_streaming:
        call = function(requests[0], **options)
    else:
        responses.append(json_format.MessageToDict(function(requests[0], **options)))
        return
    for response in call:
        responses.append(json_format.MessageToDict(response))
        if len(responses) == step.get("cancelAfter"):
            call.cancel()


def send_all(function: Callable[..., Any], requests: list[Message], options: Json) -> Any:
    """Sends everything before it reads."""
    sent = threading.Event()

    def outgoing() -> Iterator[Message]:
        yield from requests
        sent.set()

    call = function(outgoing(), **options)
    # A call that has ended sends no more.
    call.add_done_callback(lambda _: sent.set())
    sent.wait()
    return call


def details(call: grpc.Call) -> Json | None:
    info, request, retry = ErrorInfo(), BadRequest(), RetryInfo()
    status = rpc_status.from_call(call)
    unpacked = [
        message.DESCRIPTOR.full_name
        for detail in (status.details if status else ())
        for message in (info, request, retry)
        if detail.Unpack(message)
    ]
    if info.DESCRIPTOR.full_name not in unpacked:
        return None
    return {
        "domain": info.domain,
        "reason": info.reason,
        "field": request.field_violations[0].field if request.field_violations else "",
        "retryMs": retry.retry_delay.ToMilliseconds() if retry.HasField("retry_delay") else None,
        "metadata": dict(info.metadata),
    }


if __name__ == "__main__":
    main(sys.argv[1])
