"""What a request forbids itself: it may leave pools out that policy allows, never bring one in.

Not a Filter that a profile lists: `decide` asks here right after policy, so that no profile can leave it out. A router
that another one forwards to is held to the accelerator class and region that the other's policy has judged.
"""

from __future__ import annotations

import msgspec

from router.core.fleet import PoolView


class Narrowing(msgspec.Struct, frozen=True):
    """Accelerator classes and regions that the request keeps to; () for no bound. Unknown names leave no pool."""

    accelerators: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    def admits(self, pool: PoolView) -> bool:
        """Whether the pool is within both."""
        return (not self.accelerators or pool.accelerator in self.accelerators) and (
            not self.regions or pool.region in self.regions
        )

    def words(self) -> str:
        """It, for people."""
        classes, regions = " or ".join(self.accelerators), " or ".join(self.regions)
        return " in ".join(part for part in (classes or "any class", regions) if part)
