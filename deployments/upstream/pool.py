"""Puts the parts of an upstream pool's replica together: options to client, lanes and the watch over them. No Ray."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from deployments.backends.base import BackendError
from deployments.replica_server import ReplicaServer
from deployments.upstream.client import Options, UpstreamClient
from deployments.upstream.lane import Declared, UpstreamLane
from deployments.upstream.watch import Watch
from models.pipeline import TextPipeline
from models.spec import ModelSpec
from router.protocol.link import ModelGrant

WINDOW = 2
"""Items a router may have open per connection: one under way, one that takes its place."""
START_WAIT_S = 5.0
"""How long a replica waits for its upstream before it serves all the same, its models closed until it answers."""


class Upstream:
    """One replica's end of an upstream. Make it on the event loop that it is to run on."""

    def __init__(
        self, specs: Sequence[ModelSpec], options: dict[str, object], declared: Declared, max_bytes: int
    ) -> None:
        """Raises BackendError: bad options, certificate authorities or tokenizer that cannot be read."""
        try:
            self.options = msgspec.convert(options, Options)
            self._client = UpstreamClient(self.options)
        except (msgspec.ValidationError, OSError) as error:
            raise BackendError(f"backend options: {error}") from error
        self.lanes = {
            spec.name: UpstreamLane(
                spec,
                (self.options.names.get(spec.name, spec.name), self.options.versions.get(spec.name, "")),
                self._client,
                self.options,
                declared,
                TextPipeline(spec) if spec.text else None,
            )
            for spec in specs
        }
        items = self.options.connections * WINDOW
        self.grants = tuple(
            ModelGrant(spec.name, spec.version, spec.batch.max_rows, items, max_bytes, []) for spec in specs
        )
        self._watch: Watch | None = None

    async def start(self, server: ReplicaServer) -> bool:
        """Watch it from now on, for this replica. True if every model could be proven in time."""
        grants = {grant.model: grant for grant in self.grants}
        self._watch = Watch(self._client, self.lanes, grants, server, self.options)
        return await self._watch.start(START_WAIT_S)

    def check(self) -> None:
        """Raises RuntimeError where the replica must be replaced."""
        if self._watch is not None:
            self._watch.check()

    async def close(self) -> None:
        """End the watch and the connections."""
        await (self._client if self._watch is None else self._watch).close()
