"""Keys to tenants, and to the operator. Holds digests only; never stores, logs or returns a key that it was shown."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from router.core.facts import TenantFacts

KEY_BYTES = 16
KEY_PREFIX = "pm_"
MAX_KEY_CHARS = 256


def new_key(token: bytes) -> str:
    """A key of 128 random bits, for a tenant or an operator. The caller draws `token` from a cryptographic source."""
    if len(token) != KEY_BYTES:
        raise ValueError(f"a key needs {KEY_BYTES} random bytes, got {len(token)}")
    return KEY_PREFIX + token.hex()


def digest(key: str) -> str:
    """Lower-case hex SHA-256 of a key: what the config holds. A key has 128 random bits, so no salt is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


class Credentials:
    """Who holds which key, under one configuration."""

    def __init__(
        self, tenants: Iterable[TenantFacts], *, anonymous: str = "", admin_digests: Iterable[str] = ()
    ) -> None:
        """`anonymous`: id of the tenant whom a request without any credential is taken for, "" for none.

        Raises ValueError where one digest stands for two tenants, or for a tenant and the operator.
        """
        self._by_digest: dict[str, tuple[str, TenantFacts]] = {}
        self._admin = tuple(admin_digests)
        self._tenants = {tenant.id: tenant for tenant in tenants}
        self._anonymous = self._tenants.get(anonymous)
        for tenant in self._tenants.values():
            for known in tenant.key_digests:
                other = self._by_digest.setdefault(known, (known, tenant))[1]
                if other.id != tenant.id:
                    raise ValueError(f'tenants "{other.id}" and "{tenant.id}" have the same key sha256:{known[:8]}…')
        for known in self._admin:
            if known in self._by_digest:
                holder = self._by_digest[known][1].id
                raise ValueError(f'tenant "{holder}" and the operator have the same key sha256:{known[:8]}…')

    def authenticate(self, key: str) -> TenantFacts | None:
        """The tenant that holds `key` (as shown, without its scheme; "" only where none was), or None."""
        if not key:
            return self._anonymous
        shown = _shown(key)
        found = self._by_digest.get(shown)
        if found is None or not hmac.compare_digest(found[0], shown):
            return None
        return found[1]

    def tenant(self, tenant_id: str) -> TenantFacts | None:
        """The tenant of that id, whether it has a key or not."""
        return self._tenants.get(tenant_id)

    def is_admin(self, key: str) -> bool:
        """Whether `key` is one of the operator's. Every digest is compared, in constant time; without one, nobody's."""
        shown = _shown(key)
        return sum(hmac.compare_digest(known, shown) for known in self._admin) > 0


def _shown(key: str) -> str:
    """The digest of what was shown, "" for what is no key: no digest equals that."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest() if 0 < len(key) <= MAX_KEY_CHARS else ""
