"""Keys that `pointsman serve` makes at its first start: of tenants and operator, where the fleet file leaves theirs to
it, and of the streams.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

import click
import msgspec

from router.config.load import tenants_yaml
from router.config.settings import Settings
from router.policy.credentials import KEY_BYTES, digest, new_key

TENANT_KEYS = "keys.json"
ADMIN_KEY = "admin.key"
"""In the run folder, readable to their owner alone."""


class LocalKeys(msgspec.Struct, frozen=True):
    """Keys of this machine's own fleet, readable; only a trial keeps them."""

    tenants: dict[str, str] = {}
    admin: str = ""


def local_keys(settings: Settings, run: Path) -> LocalKeys:
    """Keys of tenants and operator, made at the first start where the fleet file leaves them to a tenants file.

    Only a fleet whose tenants file is absent gets new keys, and an operator's only if it has none; they are kept in the
    run folder for later starts and commands.
    """
    shown = run / TENANT_KEYS
    tenants_file = Path(settings.tenants_file) if settings.tenants_file else None
    if tenants_file is None:
        return LocalKeys()
    if not tenants_file.exists():
        keys = {tenant.id: _new_key() for tenant in settings.tenants if not tenant.key_digests}
        admin = "" if settings.server.admin.key_digests else _new_key()
        run.mkdir(parents=True, exist_ok=True)
        tenants_file.parent.mkdir(parents=True, exist_ok=True)
        _write_private(shown, json.dumps(keys))
        _write_private(run / ADMIN_KEY, admin)
        digests = {tenant: digest(key) for tenant, key in keys.items()}
        _write_private(tenants_file, tenants_yaml(digests, digest(admin) if admin else ""))
        click.echo(f"pointsman: made keys for {', '.join([*keys, 'the operator'] if admin else keys)}: {run}", err=True)
    return LocalKeys(json.loads(shown.read_text()) if shown.exists() else {}, admin_key(run))


def admin_key(run: Path) -> str:
    """The operator's key that `pointsman serve` made, "" if it made none."""
    path = run / ADMIN_KEY
    return path.read_text() if path.exists() else ""


def _new_key() -> str:
    return new_key(secrets.token_bytes(KEY_BYTES))


def stream_key(settings: Settings, run: Path) -> None:
    """The key of the streams between router and pools, made at the first start."""
    path = Path(settings.stream_key_file) if settings.stream_key_file else run / "stream.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_private(path, secrets.token_hex(32))


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
