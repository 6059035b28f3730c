"""What all connections of one listener share: the handler, the bounds, and what is held under them."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from router.api.heads import RequestIds
from router.api.linger import Lingerers
from router.config.settings import HttpSettings
from router.core.errors import CapacityError
from router.service.handler import Handler
from router.service.head import Head

if TYPE_CHECKING:
    from router.api.connection import Connection

log = logging.getLogger("pointsman.http")

RETRY_AFTER_S = 1.0


class DataPlane:
    """One per listener. `app`: the ASGI application for all that is not inference, set by the listener."""

    def __init__(
        self, handler: Handler, request_ids: RequestIds, http: HttpSettings, body_bytes: int, version: str
    ) -> None:
        """`body_bytes` bounds all requests being received or under way."""
        self.handler = handler
        self.request_ids = request_ids
        self.http = http
        self.version = version
        self.app: Any = None
        self.leaving = False
        """Set while the replica drains: every reply closes its connection."""
        self.connections: dict[Connection, None] = {}
        self.handshakes = 0
        """TLS connections that are not yet any of them."""
        self.lingerers = Lingerers()
        self.held_bytes = 0
        """Bodies that have come, as sent and as inflated, of requests that are not yet answered."""
        self.max_held_bytes = body_bytes
        # zlib lets go of the interpreter lock. One thread each, so that neither takes more than one core, nor answers
        # wait behind bombs.
        self.inflating = ThreadPoolExecutor(1, "inflate")
        self.compressing = ThreadPoolExecutor(1, "compress")

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

    def close(self) -> None:
        """The listener has left."""
        self.lingerers.close()
        self.inflating.shutdown(wait=False, cancel_futures=True)
        self.compressing.shutdown(wait=False)

    def no_room(self) -> CapacityError:
        """The error of a request whose body would be more than all bodies together may be."""
        detail = f"the router holds as many bytes of requests as it may ({self.max_held_bytes})"
        return CapacityError("saturated", detail, retry_after_s=RETRY_AFTER_S)
