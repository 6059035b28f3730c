"""Whether each pool of a configuration has a variant of each of its models, before anything is started."""

from __future__ import annotations

from pathlib import Path

from models.repository import latest, load_store
from models.variants import NoVariant, choose
from router.config.problems import Problem
from router.config.settings import Settings


def variant_problems(settings: Settings, store: Path, file: str) -> list[Problem]:
    """A problem for each model of a pool that has no variant for it, at its place in the fleet file.

    None where the store is not built yet: a replica says the same at its start. A model that is not in the store is
    somebody else's problem.
    """
    if not store.is_dir():
        return []
    specs = {name: versions[latest(versions)] for name, versions in load_store(store).items()}
    problems = []
    for index, pool in enumerate(settings.pools):
        for at, model in enumerate(pool.facts.models):
            pin = pool.variants.get(model, "")
            where = f"variants.{model}" if pin else f"models[{at}]"
            try:
                if model in specs:
                    choose(specs[model], pool.facts.accelerator.name, pool.native_provider, pin)
            except NoVariant as error:
                problems.append(Problem(file, 1, f"pools[{index}].{where}", str(error)))
    return problems
