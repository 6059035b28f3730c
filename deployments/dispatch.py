"""Carries items from this router to the replicas of every pool and brings each answer back, exactly once.

Owns the connections and who is at their other end. What is open at one pool is pool_links.py's; which pool to use is
decided elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping

from deployments.link_router import RouterEnd
from deployments.pool_links import LinkTicket, PoolLinks, give, lost
from deployments.stream import PING_PERIOD_S
from router.protocol.link import PROTOCOL_VERSION, Answer, Item, Load, Welcome
from router.service.ports import OnAnswer
from router.state.fleet_view import FleetView
from router.state.pool_queue import Entry, PoolQueue

log = logging.getLogger("pointsman.dispatch")

CONNECT_TIMEOUT_S = 2.0
RECONNECT_DELAY_S = 0.1
RECONNECT_DELAY_MAX_S = 2.0
READY_POLL_S = 0.01


class FleetLinks:
    """All pools of this router. Implements router.service.ports.Dispatcher and link_router.RouterListener."""

    def __init__(
        self,
        pools: Mapping[str, PoolQueue],
        fleet: FleetView,
        facts: Mapping[str, str],
        key: bytes,
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._pools = {name: PoolLinks(name, queue, clock) for name, queue in pools.items()}
        self._fleet = fleet
        self._facts = facts
        self._key = key
        self._clock = clock
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._homes: dict[RouterEnd, tuple[PoolLinks, str]] = {}
        self._closed = False
        self.overruns: dict[str, dict[str, int]] = {name: {} for name in pools}
        self._spawn(self._ping_forever())

    # Dispatcher
    def send(
        self, pool: str, item: Item, nbytes: int, deadline_s: float, on_answer: OnAnswer, without: tuple[str, ...] = ()
    ) -> LinkTicket | None:
        """See ports.Dispatcher.send."""
        links = self._pools[pool]
        if not links.usable:
            return None
        entry = Entry(item.id, item, nbytes, deadline_s, on_answer, without, self._clock())
        if not links.queue.offer(entry):
            return None
        if entry.replica:
            links.send(entry)
        return LinkTicket(links, entry)

    # membership
    def set_members(self, pool: str, members: Mapping[str, tuple[str, int]]) -> None:
        """The replicas Serve counts as running, with their stream addresses.

        A replica that vanishes from the list keeps its stream: only its own drain or close ends it, since Serve also
        takes a replica off the list for a moment when its user_config changes.
        """
        links = self._pools.get(pool)
        if links is None or self._closed:
            return
        links.wanted = dict(members)
        links.told = True
        for replica in members:
            self._want(links, replica)

    async def settle(self, timeout_s: float, expected: Collection[str] = ()) -> bool:
        """Until every replica that membership has named for every pool has a stream, and each of the expected pools has
        one at least; False once the time is up.
        """
        deadline_s = self._loop.time() + timeout_s
        while not all(
            links.told and links.wanted.keys() <= links.streams.keys() and (links.streams or name not in expected)
            for name, links in self._pools.items()
        ):
            if self._loop.time() > deadline_s:
                return False
            await asyncio.sleep(READY_POLL_S)
        return True

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _want(self, links: PoolLinks, replica: str) -> None:
        """Have a stream to this replica, by one task at a time."""
        if not self._closed and replica not in links.streams and replica not in links.connecting:
            links.connecting.add(replica)
            self._spawn(self._keep_trying(links, replica, links.wanted[replica]))

    async def _keep_trying(self, links: PoolLinks, replica: str, address: tuple[str, int]) -> None:
        try:
            await self._connect(links, replica, address)
        finally:
            links.connecting.discard(replica)

    async def _connect(self, links: PoolLinks, replica: str, address: tuple[str, int]) -> None:
        delay_s = RECONNECT_DELAY_S
        while links.wanted.get(replica) == address and replica not in links.streams and not self._closed:
            end = RouterEnd(self._key, self, self._loop, self._clock)
            self._homes[end] = (links, replica)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._loop.create_connection(lambda end=end: end, *address)  # type: ignore[misc]
                await asyncio.wait_for(end.settled.wait(), CONNECT_TIMEOUT_S * 2)
            except (OSError, TimeoutError) as error:
                self._homes.pop(end, None)
                end.close(f"not connected: {error}")
                log.info("pool %s replica %s at %s:%d: %s", links.name, replica, *address, error or "timed out")
            if end.is_open:
                return
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RECONNECT_DELAY_MAX_S)

    # RouterListener
    def on_welcome(self, stream: RouterEnd, welcome: Welcome) -> None:
        """A replica proved the key and said who it is: it must be who membership said it was."""
        links, replica = self._homes[stream]
        if welcome.version != PROTOCOL_VERSION:
            stream.close(f"speaks stream version {welcome.version}, this router {PROTOCOL_VERSION}")
            return
        # A port may have been taken over by another pool's replica; sending there would break eligibility.
        if (welcome.pool, welcome.replica) != (links.name, replica) or replica in links.streams:
            stream.close(f"expected {links.name}/{replica}, found {welcome.pool}/{welcome.replica}")
            return
        # Policy judged the pool by its configured facts; a replica started with others would make that judgement void.
        if welcome.facts != self._facts[links.name]:
            stream.close("was started with other facts than this router's configuration has; restart one of the two")
            return
        links.streams[replica] = stream
        self._fleet.replica_up(links.name, replica, welcome.grants, provider=welcome.provider)
        log.info("pool %s replica %s is up on %s", links.name, replica, welcome.provider)
        for entry in links.queue.replica_up(replica, welcome.grants):
            links.send_late(entry)

    def on_answers(self, stream: RouterEnd, answers: list[Answer], load: Load) -> None:
        """Answers and a load report of one replica."""
        links, replica = self._homes[stream]
        if links.streams.get(replica) is not stream:
            return
        self._fleet.load(links.name, replica, load, self._clock())
        if load.grants or load.closed or links.closed.get(replica):
            self._on_closed(links, replica, load)
        self.overruns[links.name][replica] = load.overruns
        for answer in answers:
            entry = links.open.pop(answer.id, None)
            if entry is not None:
                links.finish(entry, answer)
        links.close_if_drained(replica)

    def on_unsent(self, stream: RouterEnd, answer: Answer) -> None:
        """An item that no stream can carry: it ends, the stream goes on."""
        links, replica = self._homes.get(stream, (None, ""))
        if links is not None and (entry := links.open.pop(answer.id, None)) is not None:
            links.finish(entry, answer)
            links.close_if_drained(replica)

    def on_drain(self, stream: RouterEnd) -> None:
        """The replica is leaving: nothing new goes there; what waits and may go to no other goes back."""
        links, replica = self._homes[stream]
        if links.streams.get(replica) is not stream:
            return
        links.draining.add(replica)
        links.wanted.pop(replica, None)
        links.queue.replica_draining(replica)
        self._fleet.replica_draining(links.name, replica)
        log.info("pool %s replica %s is draining", links.name, replica)
        self._return_stranded(links, "the last replica that may take it is draining")
        links.close_if_drained(replica)

    def on_lost(self, stream: RouterEnd, why: str) -> None:
        """The stream closed: every entry on it ends with a loss that may be tried elsewhere; reconnect if wanted."""
        links, replica = self._homes.pop(stream, (None, ""))
        if links is None or links.streams.get(replica) is not stream:
            return
        level = logging.INFO if self._closed or replica in links.draining else logging.WARNING
        log.log(level, "pool %s replica %s: stream lost: %s", links.name, replica, why)
        del links.streams[replica]
        links.closed.pop(replica, None)
        links.draining.discard(replica)
        links.queue.replica_down(replica)
        self._fleet.replica_down(links.name, replica)
        for entry in [entry for entry in links.open.values() if entry.replica == replica]:
            del links.open[entry.key]
            links.finish(entry, lost(entry, f"the replica was lost: {why}", dispatched=True))
        self._return_stranded(links, "the pool has no replica left that may take it")
        if replica in links.wanted:
            self._want(links, replica)

    def _on_closed(self, links: PoolLinks, replica: str, load: Load) -> None:
        """What the replica takes has changed, or may have: what waits follows."""
        if load.grants or load.closed != links.closed.get(replica, {}):
            links.closed[replica] = load.closed
            for entry in links.queue.replica_changed(replica, load.closed, load.grants):
                links.send_late(entry)
            self._return_stranded(links, "the pool takes nothing for the model now")

    def _return_stranded(self, links: PoolLinks, detail: str) -> None:
        for entry in links.queue.withdraw_stranded():
            give(entry, lost(entry, detail, dispatched=False))

    async def _ping_forever(self) -> None:
        while True:
            await asyncio.sleep(PING_PERIOD_S)
            for links in self._pools.values():
                for stream in list(links.streams.values()):
                    stream.ping()

    async def close(self) -> None:
        """End every stream and task of this object."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for stream in list(self._homes):
            stream.close("the router is stopping")
