"""What a replica would refuse at its start, told before anything is started: a model without a variant or a profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from models.profile_store import ProfileError, find_profile
from models.repository import latest, load_store
from models.spec import ModelSpec
from models.variants import NoVariant, choose
from router.config.problems import Problem
from router.config.settings import UPSTREAM, PoolSettings, Settings


def pool_problems(settings: Settings, store: Path, file: str) -> list[Problem]:
    """A problem for each model of a pool that it could not serve, at its place in the fleet file.

    Of variants nothing is said where the store is not built yet. A model that is not in it is somebody else's problem.
    """
    built = load_store(store) if store.is_dir() else {}
    specs = {name: versions[latest(versions)] for name, versions in built.items()}
    return [
        Problem(file, 1, f"pools[{index}].{where}", words)
        for index, pool in enumerate(settings.pools)
        for where, words in (*_variants(pool, specs), *_profiles(pool))
    ]


def _variants(pool: PoolSettings, specs: Mapping[str, ModelSpec]) -> Iterator[tuple[str, str]]:
    for index, model in enumerate(() if pool.backend == UPSTREAM else pool.facts.models):
        pin = pool.variants.get(model, "")
        try:
            if model in specs:
                choose(specs[model], pool.facts.accelerator.name, pool.native_provider, pin)
        except NoVariant as error:
            yield (f"variants.{model}" if pin else f"models[{index}]"), str(error)


def _profiles(pool: PoolSettings) -> Iterator[tuple[str, str]]:
    for index, model in enumerate(pool.facts.models if pool.backend == "emulated" else ()):
        try:
            find_profile(model, pool.facts.accelerator.name, str(pool.options.get("profile", "")))
        except ProfileError as error:
            yield f"models[{index}]", f"the emulated pool cannot keep its times: {error}"
