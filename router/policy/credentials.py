"""API keys to tenants. Holds digests only; never stores, logs or returns a key that it was shown."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from router.core.facts import TenantFacts

KEY_BYTES = 16
KEY_PREFIX = "pm_"
MAX_KEY_CHARS = 256


def new_key(token: bytes) -> str:
    """The API key of 128 random bits. The caller draws `token` from a cryptographic source."""
    if len(token) != KEY_BYTES:
        raise ValueError(f"a key needs {KEY_BYTES} random bytes, got {len(token)}")
    return KEY_PREFIX + token.hex()


def digest(key: str) -> str:
    """Lower-case hex SHA-256 of a key: what the config holds. A key has 128 random bits, so no salt is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


class Credentials:
    """Who holds which key."""

    def __init__(self, tenants: Iterable[TenantFacts]) -> None:
        """Raises ValueError where one digest stands for two tenants."""
        self._by_digest: dict[str, tuple[str, TenantFacts]] = {}
        for tenant in tenants:
            for known in tenant.key_digests:
                other = self._by_digest.setdefault(known, (known, tenant))[1]
                if other.id != tenant.id:
                    raise ValueError(f'tenants "{other.id}" and "{tenant.id}" have the same key sha256:{known[:8]}…')

    def authenticate(self, key: str) -> TenantFacts | None:
        """The tenant that holds `key` (as shown, without its scheme; "" where none was), or None."""
        if not 0 < len(key) <= MAX_KEY_CHARS:
            return None
        shown = hashlib.sha256(key.encode(errors="replace")).hexdigest()
        found = self._by_digest.get(shown)
        if found is None or not hmac.compare_digest(found[0], shown):
            return None
        return found[1]
