"""Export attributes by numbers: total processing performance (TPP), performance density (PD) and the class that
follows, each with its arithmetic in words. Computes from stated figures only; what cannot be decided from them is None.

The numbers describe data-centre parts. They are no licence state and no legal advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

RULE = "ECCN 3A090 as of 17 November 2023, 88 FR 73458"
"""Legal source of the thresholds below."""
BITS = {"fp16": 16, "fp8": 8, "int8": 8, "fp4": 4}
"""Bit length of an operation by precision; fp16 stands for bf16 too."""
CONTROLLED_TPP = 4800.0
"""From here on the class is 3A090.a, whatever the density."""
DENSE_TPP = 1600.0
"""Below it no class holds, whatever the density."""
MIDDLE_TPP = 2400.0
HIGH_PD, MIDDLE_PD, LOW_PD = 5.92, 3.2, 1.6
"""TPP per mm2."""
STATED = "stated, not computed"


class Figure(msgspec.Struct, Generic[T], frozen=True):
    """A value, None where it is unknown, and in words how it came about."""

    value: T | None
    how: str


class ExportFigures(msgspec.Struct, frozen=True):
    """What the numbers say of a part."""

    tpp: Figure[float]
    performance_density: Figure[float]
    """TPP / mm2."""
    class_: Figure[str] = msgspec.field(name="class")
    """3A090.a, 3A090.b or none."""


def export_figures(
    peak_tops: Mapping[str, float | None], die_area_mm2: float | None, stated: Mapping[str, float | str | None]
) -> ExportFigures:
    """Figures from dense peaks (TOPS or TFLOPS by names of BITS; None: unknown) and die area.

    `stated` may hold tpp, performance_density and class: what stands there wins, None included, and the rest follows
    from it.
    """
    tpp = _stated_number(stated, "tpp") or total_processing_performance(peak_tops)
    density = _stated_number(stated, "performance_density") or performance_density(tpp.value, die_area_mm2)
    if "class" in stated:
        value = stated["class"]
        return ExportFigures(tpp, density, Figure(None if value is None else str(value), STATED))
    return ExportFigures(tpp, density, export_class(tpp.value, density.value))


def _stated_number(stated: Mapping[str, float | str | None], name: str) -> Figure[float] | None:
    if name not in stated:
        return None
    value = stated[name]
    return Figure(None if value is None else float(value), STATED)


def total_processing_performance(peak_tops: Mapping[str, float | None]) -> Figure[float]:
    """The best over the stated precisions of dense peak times bit length; unknown without any. KeyError: a name not in
    BITS."""
    products = {name: peak * BITS[name] for name, peak in peak_tops.items() if peak is not None}
    if not products:
        return Figure(None, "no peak is stated")
    terms = [f"{name} {number(peak_tops[name])} x {BITS[name]} bit = {number(tpp)}" for name, tpp in products.items()]
    return Figure(max(products.values()), ("best of " if len(terms) > 1 else "") + ", ".join(terms))


def performance_density(tpp: float | None, die_area_mm2: float | None) -> Figure[float]:
    """TPP per mm2 of die."""
    if tpp is None or die_area_mm2 is None:
        return Figure(None, f"{'TPP' if tpp is None else 'die area'} is unknown")
    density = tpp / die_area_mm2
    return Figure(density, f"{number(tpp)} / {number(die_area_mm2)} mm2 = {number(density)}")


def export_class(tpp: float | None, density: float | None) -> Figure[str]:
    """The class by numbers. Where TPP decides alone, an unknown density does not matter."""
    if tpp is None:
        return Figure(None, "TPP is unknown")
    if tpp >= CONTROLLED_TPP:
        return Figure("3A090.a", f"TPP >= {number(CONTROLLED_TPP)}")
    if tpp < DENSE_TPP:
        return Figure("none", f"TPP < {number(DENSE_TPP)}")
    if density is None:
        return Figure(
            None, f"{number(DENSE_TPP)} <= TPP < {number(CONTROLLED_TPP)}: density decides, and it is unknown"
        )
    if density >= HIGH_PD:
        return Figure("3A090.a", f"TPP >= {number(DENSE_TPP)} and PD >= {HIGH_PD}")
    if density >= MIDDLE_PD:
        return Figure("3A090.b", f"TPP >= {number(DENSE_TPP)} and {MIDDLE_PD} <= PD < {HIGH_PD}")
    if tpp < MIDDLE_TPP:
        return Figure("none", f"TPP < {number(MIDDLE_TPP)} and PD < {MIDDLE_PD}")
    bounds = f"{number(MIDDLE_TPP)} <= TPP < {number(CONTROLLED_TPP)}"
    if density >= LOW_PD:
        return Figure("3A090.b", f"{bounds} and {LOW_PD} <= PD < {HIGH_PD}")
    return Figure("none", f"{bounds} and PD < {LOW_PD}")


def number(value: float | None) -> str:
    """At most two decimals, and none that say nothing; unknown in a word."""
    return "unknown" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")
