"""Keys that `pointsman serve` makes at its first start: of the tenants that leave theirs to it, and of the streams."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

import click

from router.config.load import tenants_yaml
from router.config.settings import Settings
from router.policy.credentials import KEY_BYTES, digest, new_key


def local_keys(settings: Settings, run: Path) -> dict[str, str]:
    """Keys of this machine's own tenants, made at the first start where the fleet file leaves them to a tenants file.

    Only a fleet whose tenants file is absent gets new keys; they are kept beside it for the curl line of later starts.
    """
    shown = run / "keys.json"
    tenants_file = Path(settings.tenants_file) if settings.tenants_file else None
    if tenants_file is not None and not tenants_file.exists():
        keys = {
            tenant.id: new_key(secrets.token_bytes(KEY_BYTES)) for tenant in settings.tenants if not tenant.key_digests
        }
        run.mkdir(parents=True, exist_ok=True)
        tenants_file.parent.mkdir(parents=True, exist_ok=True)
        _write_private(shown, json.dumps(keys))
        _write_private(tenants_file, tenants_yaml({tenant: digest(key) for tenant, key in keys.items()}))
        click.echo(f"pointsman: made API keys for {', '.join(keys)}: {shown}", err=True)
    return json.loads(shown.read_text()) if tenants_file is not None and shown.exists() else {}


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
