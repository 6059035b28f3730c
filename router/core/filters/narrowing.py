"""What a request forbids itself: it may leave pools out that policy allows, never bring one in.

Not a Filter that a profile lists: `decide` asks here right after policy, so that no profile can leave it out. A router
that another one forwards to is held to the class and region that the other's policy has judged, and to hardware that
is as real.
"""

from __future__ import annotations

import msgspec

from router.core.fleet import PoolView


class Narrowing(msgspec.Struct, frozen=True):
    """Accelerator classes and regions that the request keeps to; () for no bound. Unknown names leave no pool."""

    accelerators: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    emulated: bool | None = None
    """True: emulated pools only; False: real ones only."""

    def admits(self, pool: PoolView) -> bool:
        """Whether the pool is within all of it."""
        return (
            (not self.accelerators or pool.accelerator in self.accelerators)
            and (not self.regions or pool.region in self.regions)
            and (self.emulated is None or pool.emulated == self.emulated)
        )

    def words(self) -> str:
        """It, for people."""
        classes, regions = " or ".join(self.accelerators), " or ".join(self.regions)
        kind = {None: "", True: "emulated ", False: "real "}[self.emulated]
        return " in ".join(part for part in (kind + (classes or "any class"), regions) if part)
