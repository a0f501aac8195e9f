"""The connection to a sidecar, with waits and retries that do not depend on the caller."""

from __future__ import annotations

import json
import re

import grpc

_ADDRESS = re.compile(r"unix:.+|(\[[^\s/\[\]]+\]|[^\s/\[\]:]+):(?P<port>[0-9]{1,5})")

_SERVICE = "changelog.v1.ChangelogService"
_RETRIED = ("Set", "Delete", "Get", "Flush", "Describe", "LoadWorkspace")

# After a broken connection the library answers UNAVAILABLE, and does not know whether a write was done. So these
# retries are safe only if one writer owns the key: a retry may overwrite a newer write. Write is not retried, because
# its stream has state. `watch` resumes Watch itself.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": _SERVICE, "method": method} for method in _RETRIED],
            "waitForReady": True,
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        },
        {"name": [{"service": _SERVICE}], "waitForReady": True},
    ]
}

_OPTIONS = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # The server bounds its messages, by --max-value-bytes. The library's limit of 4 MiB may be lower.
    ("grpc.max_receive_message_length", -1),
    # The library would repeat no request above 256 KiB. The server takes larger ones, by --max-value-bytes.
    ("grpc.per_rpc_retry_buffer_size", 64 << 20),
    # Finds a connection that is dead without a word. The server takes pings at any rate.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The answer of the ping itself. The library would wait for it for a minute.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # A watch sends nothing after its request, and the library would stop its pings after two.
    ("grpc.http2.max_pings_without_data", 0),
    # A sidecar that restarts is back soon. The library's own bound is 2 minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Else all clients of a process would share one connection to an address, which carries 128 calls at a time.
    ("grpc.use_local_subchannel_pool", 1),
    # A sidecar is near. The proxy that the environment names is for other hosts.
    ("grpc.enable_http_proxy", 0),
]


def connect(address: str) -> grpc.Channel:
    """Raises ValueError if the address is not `host:port` or `unix:/path`. Connects at the first call."""
    found = _ADDRESS.fullmatch(address)
    # The library would look for a host of that name, and calls would wait until their timeout.
    if not found or not 0 < int(found["port"] or 1) < 65_536:
        raise ValueError(f"the address is not host:port or unix:/path: {address!r}")
    options = list(_OPTIONS)
    if address.startswith("unix:"):
        # The library would send the path as :authority, where it is not valid, and the server would reset each call.
        options.append(("grpc.default_authority", "localhost"))
    return grpc.insecure_channel(address, options)
