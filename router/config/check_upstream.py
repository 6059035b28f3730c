"""What a pool that is another server says, checked beyond the schema, and as options of its replicas."""

from __future__ import annotations

from pathlib import Path

from router.config.check_server import path_of
from router.config.problems import unknown
from router.config.read import Draft
from router.config.schema import Fleet, Pool
from router.config.schema_upstream import UpstreamKeys
from router.config.settings import Option

FILES = ("authorization_file", "ca_file")


def upstream_options(draft: Draft[Fleet], path: str, pool: Pool, here: Path) -> dict[str, Option]:
    """The options of the pool's backend, files as absolute paths. Notes every fault."""
    backend = pool.backend
    if backend.url is None:
        draft.fault(f"{path}.url", "is required for a backend of type oip_upstream")
    for key in ("names", "versions"):
        for model in getattr(backend, key) or {}:
            if model not in pool.models:
                draft.fault(f"{path}.{key}.{model}", unknown("model of this pool", model, pool.models))
    plain = backend.url is not None and backend.url.startswith("http:")
    if plain and backend.ca_file is not None:
        draft.fault(f"{path}.ca_file", "belongs to an https url")
    options: dict[str, Option] = backend.model_dump(include=set(UpstreamKeys.model_fields), exclude_none=True)
    return options | {key: path_of(here, getattr(backend, key)) for key in FILES if getattr(backend, key) is not None}
