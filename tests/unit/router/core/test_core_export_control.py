"""Export attributes by numbers, at and beside each line of the rule."""

import pytest

from router.core.export_control import (
    Figure,
    export_class,
    export_figures,
    performance_density,
    total_processing_performance,
)


@pytest.mark.parametrize(
    ("tpp", "density", "expected"),
    [
        (4800.0, None, "3A090.a"),
        (4799.9, 5.92, "3A090.a"),
        (1600.0, 5.92, "3A090.a"),
        (1599.9, 99.0, "none"),
        (1599.9, None, "none"),
        (1600.0, 5.91, "3A090.b"),
        (1600.0, 3.2, "3A090.b"),
        (1600.0, 3.19, "none"),
        (2399.9, 3.19, "none"),
        (2400.0, 3.19, "3A090.b"),
        (2400.0, 1.6, "3A090.b"),
        (4799.9, 1.59, "none"),
        (1600.0, None, None),
        (4799.9, None, None),
        (None, None, None),
        (None, 6.0, None),
    ],
)
def test_the_class_follows_from_tpp_and_density(tpp, density, expected):
    """Each line of the rule belongs to the stricter side, and an unknown input to neither."""
    assert export_class(tpp, density).value == expected


def test_tpp_is_the_best_over_the_precisions_that_are_stated():
    """Peak times bit length; the arithmetic is told."""
    figure = total_processing_performance({"fp16": 100.0, "fp8": None, "int8": 250.5, "fp4": 400.0})
    assert figure.value == 2004.0
    assert figure.how == "best of fp16 100 x 16 bit = 1600, int8 250.5 x 8 bit = 2004, fp4 400 x 4 bit = 1600"


def test_without_a_peak_or_a_die_area_nothing_is_guessed():
    """The words say what is missing."""
    assert total_processing_performance({"fp16": None}).value is None
    assert performance_density(4000.0, None) == Figure(None, "die area is unknown")
    assert performance_density(None, 800.0) == Figure(None, "TPP is unknown")


def test_what_is_stated_wins_and_the_rest_follows_from_it():
    """None included: stated to be unknown."""
    peaks = {"fp16": 10.0}
    stated = export_figures(peaks, 1000.0, {"tpp": 5000.0})
    assert (stated.tpp.value, stated.tpp.how) == (5000.0, "stated, not computed")
    assert (stated.performance_density.value, stated.class_.value) == (5.0, "3A090.a")
    assert export_figures(peaks, None, {"class": None}).class_.value is None
    assert export_figures(peaks, None, {"class": "3A090.b"}).class_.value == "3A090.b"
    unknown = export_figures({"fp16": 1000.0}, 100.0, {"tpp": None})
    assert (unknown.tpp.value, unknown.performance_density.value, unknown.class_.value) == (None, None, None)
    zero = export_figures({"fp16": 1000.0}, 100.0, {"tpp": 0.0})
    assert (zero.tpp.value, zero.class_.value) == (0.0, "none")
