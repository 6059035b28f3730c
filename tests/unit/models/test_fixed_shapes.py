"""Batches padded to the shapes that a variant runs, and answers cut back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.fixed_shapes import cut, padded, shapes
from models.spec import BatchRule, ModelSpec, TensorSpec, Variant

IDS = TensorSpec("ids", "INT64", ("batch", "tokens"), pad=7, max_length=8)
SCORES = TensorSpec("scores", "FP32", ("batch", "tokens"))
SIZES = {"batch": (1, 4, 8), "tokens": (2, 8)}


def test_padding_is_the_pad_value_along_an_axis_and_the_last_row_below():
    """A row of padding values could hold indices that the model must never see."""
    whole, extents = padded((IDS,), {"ids": np.array([[1, 2, 3], [4, 5, 6]])}, SIZES)
    assert extents == {"batch": 2, "tokens": 3}
    assert whole["ids"].tolist() == [[1, 2, 3, *[7] * 5], *[[4, 5, 6, *[7] * 5]] * 3]


def test_what_fits_is_passed_on_as_it_is():
    """No copy."""
    arrays = {"ids": np.ones((4, 8), np.int64)}
    assert padded((IDS,), arrays, SIZES)[0] is arrays


@given(st.integers(1, 8), st.integers(1, 8))
def test_the_answer_has_the_shape_and_values_that_it_would_have_without_padding(rows, tokens):
    """For every extent there is a listed one."""
    ids = np.arange(rows * tokens).reshape(rows, tokens)
    whole, extents = padded((IDS,), {"ids": ids}, SIZES)
    assert all(extent in SIZES[axis] for axis, extent in zip(IDS.shape, whole["ids"].shape, strict=True))
    answer = cut((SCORES,), {"scores": whole["ids"] * 2.0}, extents)
    assert answer["scores"].tolist() == (ids * 2.0).tolist()


def test_what_is_larger_than_every_size_is_refused():
    """By axis and number."""
    with pytest.raises(ValueError, match="axis batch: at most 8 expected, got 9"):
        padded((IDS,), {"ids": np.ones((9, 2), np.int64)}, SIZES)


def test_the_shapes_that_will_run_are_known_beforehand():
    """Those of batches the model allows, and the one size above; none where any shape runs."""
    variant = Variant("v", "f", "", sizes=SIZES)
    spec = ModelSpec("m", "1", (IDS,), (SCORES,), BatchRule(3), (variant,))
    assert [(each["batch"], each["tokens"]) for each in shapes(spec)] == [(1, 2), (1, 8), (4, 2), (4, 8)]
    assert shapes(ModelSpec("m", "1", (IDS,), (SCORES,), BatchRule(), (Variant("v", "f", ""),))) == []
