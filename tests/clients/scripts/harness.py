"""Runs the checks of one client script and says of each, as a line of JSON on stdout, whether it held.

A check is a coroutine function `check_<name>(server)` of the script. The server's facts come as JSON in argv[-1].
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Server:
    """What a client has to know. Addresses are host:port."""

    http: str
    grpc: str
    key: str
    """Of a tenant that may use every model."""
    denied_key: str
    """Of a tenant that may use none."""
    datatypes: list[str]
    others: dict[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """Request headers, or gRPC metadata, that prove the tenant."""
        return {"authorization": f"Bearer {self.key}"}


Check = Callable[[Server], Awaitable[None]]


async def awaited(value: Any) -> Any:
    """The value, or what it becomes: one check then serves a client's synchronous form and its asynchronous one."""
    return await value if inspect.isawaitable(value) else value


def main(checks: dict[str, Check]) -> None:
    """Run the checks one after another and print what became of each."""
    server = Server(**json.loads(sys.argv[-1]))
    for name, check in checks.items():
        started = time.monotonic()
        fault = asyncio.run(_fault(check, server))
        line = {"check": name, "fault": fault, "seconds": round(time.monotonic() - started, 3)}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


async def _fault(check: Check, server: Server) -> str:
    try:
        await asyncio.wait_for(check(server), 60)
    except Exception:
        return traceback.format_exc()
    return ""
