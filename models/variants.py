"""Which variant of a model a pool serves. One pure rule, so that a check before the start and the replica agree."""

from __future__ import annotations

from collections.abc import Mapping

from models.spec import ModelSpec, Variant


class NoVariant(ValueError):
    """The model has no variant for that pool. The text says what it has."""


def choose(spec: ModelSpec, accelerator: str, provider: str, pinned: str = "") -> Variant:
    """The variant of `spec` for pools of an accelerator class on an execution provider.

    One that names the class goes before one that names the provider, and that before one for any; among equals the
    first listed. `pinned` is the operator's own choice, whatever the variant is meant for. Raises NoVariant.
    """
    if pinned:
        for variant in spec.variants:
            if variant.name == pinned:
                return variant
        raise NoVariant(f"{spec.name} has no variant {pinned!r}; it has {_listed(spec)}")
    for wanted in (accelerator, provider, None):
        for variant in spec.variants:
            if wanted in variant.meant_for or (wanted is None and not variant.meant_for):
                return variant
    raise NoVariant(f"{spec.name} has no variant for {accelerator} on provider {provider}; it has {_listed(spec)}")


def chosen(spec: ModelSpec, accelerator: str, provider: str, pins: Mapping[str, str]) -> ModelSpec:
    """The model narrowed to the variant that `choose` takes. `pins`: variant by model name. Raises NoVariant."""
    return spec.narrowed(choose(spec, accelerator, provider, pins.get(spec.name, "")))


def _listed(spec: ModelSpec) -> str:
    return ", ".join(f"{v.name} (for {' and '.join(v.meant_for) or 'any'})" for v in spec.variants)
