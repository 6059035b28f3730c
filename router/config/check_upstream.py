"""What a pool that is another server says, checked beyond the schema, and as options of its replicas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from router.config.check_server import path_of
from router.config.problems import unknown
from router.config.read import Draft
from router.config.schema import Fleet, Pool
from router.config.schema_backend import UpstreamBackend

FILES = ("authorization_file", "ca_file")


def upstream_options(
    draft: Draft[Fleet], path: str, pool: Pool, backend: UpstreamBackend, here: Path
) -> dict[str, Any]:
    """The options of the pool's backend, files as absolute paths. Notes every fault."""
    for key in ("names", "versions"):
        for model in getattr(backend, key) or {}:
            if model not in pool.models:
                draft.fault(f"{path}.{key}.{model}", unknown("model of this pool", model, pool.models))
    if backend.url.startswith("http:") and backend.ca_file is not None:
        draft.fault(f"{path}.ca_file", "belongs to an https url")
    options = backend.model_dump(exclude={"type"}, exclude_none=True)
    return options | {key: path_of(here, getattr(backend, key)) for key in FILES if getattr(backend, key) is not None}
