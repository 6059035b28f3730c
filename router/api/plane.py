"""What connections share: the handler, the bounds of a listener, and what is held under them."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

from router.api.heads import RequestIds
from router.api.linger import Lingerers
from router.config.settings import HttpSettings
from router.core.errors import CapacityError
from router.service.handler import Handler
from router.service.head import Head

log = logging.getLogger("pointsman.http")

RETRY_AFTER_S = 1.0


class Checked(Protocol):
    """A connection as its listener sees it."""

    def check(self, now_s: float) -> None:
        """End what takes too long."""


C = TypeVar("C", bound=Checked)


class Gate(Generic[C]):
    """The connections of one listener, and how many there may be."""

    def __init__(self, handler: Handler, request_ids: RequestIds, http: HttpSettings) -> None:
        self.handler = handler
        self.request_ids = request_ids
        self.http = http
        self.connections: dict[C, None] = {}
        self.handshakes = 0
        """TLS connections that are not yet any of them."""
        self.lingerers = Lingerers()

    def is_full(self) -> bool:
        """Whether there are more connections than may be, those counted that are still shaking hands."""
        return len(self.connections) + self.handshakes > self.http.max_connections

    def too_many(self) -> CapacityError:
        """The error of a connection that is one too many."""
        detail = f"the router has as many connections as it may ({self.http.max_connections})"
        return CapacityError("too_many_connections", detail, retry_after_s=RETRY_AFTER_S)

    def count_too_many(self) -> None:
        """Of one that cannot even be told so."""
        self.handler.refused(Head("", "", self.request_ids.new()), self.too_many())


class DataPlane(Gate[Any]):
    """What requests share, and the data listener's connections.

    `app`: the ASGI application for all that is not inference, set by the listener.
    """

    def __init__(
        self, handler: Handler, request_ids: RequestIds, http: HttpSettings, body_bytes: int, version: str
    ) -> None:
        """`body_bytes` bounds all requests being received or under way."""
        super().__init__(handler, request_ids, http)
        self.version = version
        self.app: Any = None
        self.leaving = False
        """Set while the replica drains: every reply closes its connection."""
        self.held_bytes = 0
        """Bodies that have come, as sent and as inflated, of requests that are not yet answered."""
        self.answer_bytes = 0
        """Of them: gRPC's answers that wait for their turn or for their client."""
        self.max_held_bytes = body_bytes
        # zlib lets go of the interpreter lock. One thread each, so that neither takes more than one core, nor answers
        # wait behind bombs.
        self.inflating = ThreadPoolExecutor(1, "inflate")
        self.compressing = ThreadPoolExecutor(1, "compress")

    def close(self) -> None:
        """The listener has left."""
        self.lingerers.close()
        self.inflating.shutdown(wait=False, cancel_futures=True)
        self.compressing.shutdown(wait=False)

    def no_room(self) -> CapacityError:
        """The error of a request whose body would be more than all bodies together may be."""
        detail = f"the router holds as many bytes of requests as it may ({self.max_held_bytes})"
        return CapacityError("saturated", detail, retry_after_s=RETRY_AFTER_S)
