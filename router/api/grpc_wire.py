"""Between gRPC's calls and the handler's values: metadata in, metadata and status out."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc

from router.protocol.oip_binary import JSON_LENGTH
from router.protocol.problem import problem
from router.service.reply import Failure, Reply

MAX_DETAILS = 1024
"""Characters. They travel in a header, percent-encoded, and clients bound the size of their headers."""

_HTTP_ONLY = frozenset({"content-type", "www-authenticate"})
_FRAMING = frozenset(
    {"content-length", "transfer-encoding", "content-encoding", "accept-encoding", "host", "expect", "te", "trailer",
     "connection", "keep-alive", "upgrade", JSON_LENGTH}
)  # fmt: skip
"""What says over HTTP how a body comes. gRPC has its own; here nobody has looked at what they hold."""


def headers_of(context: Any) -> list[tuple[bytes, bytes]]:
    """The call's metadata as HTTP headers, without those that frame a body and those that are binary: none is read."""
    given = context.invocation_metadata() or ()
    return [(key.encode(), value.encode()) for key, value in given if isinstance(value, str) and key not in _FRAMING]


def trailing(reply: Reply) -> tuple[tuple[str, str], ...]:
    """Trailing metadata: what the headers of an HTTP reply say, and of an error its reason.

    `grpc-retry-pushback-ms` is how gRPC's own retries are told to wait.
    """
    said = [header for header in reply.headers() if header[0] not in _HTTP_ONLY]
    error = reply.error
    if error is not None:
        said.append(("x-pointsman-reason", error.reason))
        if error.retry_after_s is not None:
            said.append(("grpc-retry-pushback-ms", str(max(1, round(error.retry_after_s * 1e3)))))
    return tuple(said)


def details(error: Failure) -> str:
    """The words of a status, fit for the wire."""
    return error.detail.encode(errors="replace").decode()[:MAX_DETAILS]


async def fail(context: Any, reply: Reply) -> NoReturn:
    """End the call with the status of the reply's error."""
    assert reply.error is not None
    status = grpc.StatusCode[problem(reply.error.reason).grpc]
    await context.abort(status, details(reply.error), trailing(reply))
    raise AssertionError("an aborted call goes on")
