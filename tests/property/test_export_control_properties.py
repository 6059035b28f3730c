"""The export class by numbers over all inputs: it never eases as a part grows, and unknown is never a guess."""

from hypothesis import given
from hypothesis import strategies as st

from router.core.export_control import BITS, export_class, export_figures

RANK = {"none": 0, "3A090.b": 1, "3A090.a": 2}
LINES = [0.0, 1599.99, 1600.0, 2399.99, 2400.0, 4799.99, 4800.0]
TPP = st.one_of(st.sampled_from(LINES), st.floats(0, 50_000))
DENSITY = st.one_of(st.sampled_from([0.0, 1.59, 1.6, 3.19, 3.2, 5.91, 5.92]), st.floats(0, 100))
PEAKS = st.dictionaries(st.sampled_from(sorted(BITS)), st.one_of(st.none(), st.floats(0, 10_000)))
AREA = st.one_of(st.none(), st.floats(1, 2_000))
EVERY_BAND = (0.0, 1.6, 3.2, 5.92)
"""One density of each band that the rule tells apart."""


@given(TPP, TPP, DENSITY, DENSITY)
def test_more_performance_or_density_never_eases_the_class(tpp, more_tpp, density, more_density):
    """Monotone in both."""
    low = export_class(min(tpp, more_tpp), min(density, more_density)).value
    high = export_class(max(tpp, more_tpp), max(density, more_density)).value
    assert RANK[low] <= RANK[high]


@given(TPP)
def test_an_unknown_density_leaves_the_class_known_exactly_where_every_density_gives_the_same(tpp):
    """Neither a guess nor a needless no."""
    classes = {export_class(tpp, density).value for density in EVERY_BAND}
    assert export_class(tpp, None).value == (classes.pop() if len(classes) == 1 else None)


@given(PEAKS, AREA)
def test_figures_are_unknown_exactly_where_an_input_is(peaks, area):
    """And a peak that is unknown counts as one that is not there."""
    figures = export_figures(peaks, area, {})
    known = {name: peak for name, peak in peaks.items() if peak is not None}
    assert (figures.tpp.value is None) == (not known)
    assert (figures.performance_density.value is None) == (not known or area is None)
    assert figures == export_figures(known, area, {})


@given(PEAKS, AREA, st.sampled_from(sorted(BITS)), st.floats(0, 10_000))
def test_a_further_peak_never_lowers_tpp(peaks, area, name, peak):
    """The best counts."""
    before = export_figures(peaks, area, {}).tpp.value or 0.0
    after = export_figures(peaks | {name: max(peak, peaks.get(name) or 0.0)}, area, {}).tpp.value
    assert after >= before
