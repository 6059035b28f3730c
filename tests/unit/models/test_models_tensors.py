"""Arrays against a TensorSpec."""

from __future__ import annotations

import numpy as np
import pytest

from models.spec import TensorSpec
from models.tensors import DTYPES, TensorError, check, from_wire, ragged_lengths, split, stack, to_wire

DENSE = (TensorSpec("x", "FP32", ("batch", 4)),)
TOKENS = (
    TensorSpec("ids", "INT64", ("batch", "sequence"), max_length=8, valid=(0, 99)),
    TensorSpec("mask", "INT64", ("batch", "sequence"), max_length=8),
)
TEXT = (TensorSpec("text", "BYTES", ("batch",)),)


def tokens(*shape: int, mask: tuple[int, ...] | None = None) -> dict[str, np.ndarray]:
    return {"ids": np.ones(shape, np.int64), "mask": np.ones(mask or shape, np.int64)}


def refused(accepted, arrays) -> TensorError:
    with pytest.raises(TensorError) as error:
        check(accepted, arrays)
    return error.value


def test_rows_are_the_extent_of_the_batch_axis():
    """A request's rows come from its first axis, whichever accepted set it uses."""
    assert check((DENSE,), {"x": np.zeros((3, 4), np.float32)}) == 3
    assert check((TEXT, TOKENS), tokens(2, 5)) == 2
    assert check((TEXT, TOKENS), {"text": np.array([b"a", b"b"], object)}) == 2


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "input text is missing; accepted: [text] or [ids, mask]"),
        ({"ids": np.ones((1, 2), np.int64)}, "input mask is missing; accepted: [text] or [ids, mask]"),
        ({**tokens(1, 2), "extra": np.ones(1)}, "input 'extra' is unknown; accepted: [text] or [ids, mask]"),
        ({"txt": np.array([b""], object)}, "input text is missing, input 'txt' is unknown"),
    ],
)
def test_a_wrong_set_of_names_is_malformed_and_says_which_sets_are_accepted(arrays, words):
    """Missing and unknown tensors are named against the closest accepted set."""
    error = refused((TEXT, TOKENS), arrays)
    assert error.reason == "malformed"
    assert words in str(error)


def test_another_datatype_is_malformed_and_names_both():
    """Nothing is cast silently."""
    error = refused((DENSE,), {"x": np.zeros((1, 4), np.float64)})
    assert (error.reason, str(error)) == ("malformed", "x: datatype FP32 expected, got FP64")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((4,), "2 axes expected, got 1"),
        ((1, 4, 1), "2 axes expected, got 3"),
        ((1, 5), "x: shape [batch, 4] expected, got [1, 5]: 4 expected, got 5"),
        ((0, 4), "axis batch: at least 1 expected, got 0"),
    ],
)
def test_a_wrong_shape_is_a_mismatch_that_names_the_axis(shape, words):
    """Rank, fixed axes and rows are checked."""
    error = refused((DENSE,), {"x": np.zeros(shape, np.float32)})
    assert error.reason == "shape_mismatch"
    assert words in str(error)


@pytest.mark.parametrize(
    ("ids", "mask", "words"),
    [
        ((2, 5), (3, 5), "axis batch is 2 in another tensor"),
        ((2, 5), (2, 4), "axis sequence is 5 in another tensor"),
        ((1, 0), (1, 0), "axis sequence: at least 1 expected, got 0"),
        ((1, 9), (1, 9), "axis sequence: at most 8 expected, got 9"),
    ],
)
def test_symbolic_axes_agree_over_the_tensors_of_a_request_and_keep_their_limit(ids, mask, words):
    """One name, one extent; a long request cannot pad its whole batch beyond the limit."""
    error = refused((TOKENS,), tokens(*ids, mask=mask))
    assert error.reason == "shape_mismatch"
    assert words in str(error)


@pytest.mark.parametrize("value", [-1, 100])
def test_values_outside_the_declared_range_are_malformed(value):
    """An index that a device would read out of bounds never gets there."""
    arrays = tokens(1, 3)
    arrays["ids"][0, 1] = value
    error = refused((TOKENS,), arrays)
    assert (error.reason, str(error)) == ("malformed", "ids: values from 0 to 99 expected, got others")


def test_nan_is_outside_every_declared_range():
    """A range holds for floats too, and NaN is not in it."""
    spec = (TensorSpec("x", "FP32", ("batch",), valid=(0.0, 1.0)),)
    assert refused((spec,), {"x": np.array([np.nan], np.float32)}).reason == "malformed"


def test_one_request_is_stacked_without_a_copy():
    """A batch of one is the request itself."""
    request = tokens(1, 3)
    assert stack(TOKENS, [request]) is request


def test_ragged_axes_are_padded_with_the_value_of_the_spec():
    """The padding is the spec's, and only where a request is shorter than the longest."""
    spec = (TensorSpec("ids", "INT64", ("batch", "sequence"), pad=7),)
    batch = stack(spec, [{"ids": np.array([[1, 2, 3]])}, {"ids": np.array([[4], [5]])}])
    assert batch["ids"].tolist() == [[1, 2, 3], [4, 7, 7], [5, 7, 7]]


def test_bytes_are_padded_with_empty_bytes():
    """BYTES tensors stay bytes where they are padded."""
    spec = (TensorSpec("words", "BYTES", ("batch", "n")),)
    parts = [{"words": np.array([[b"a", b"b"]], object)}, {"words": np.array([[b"c"]], object)}]
    assert stack(spec, parts)["words"].tolist() == [[b"a", b"b"], [b"c", b""]]


def test_outputs_are_cut_to_each_requests_own_length():
    """Padding never shows: an output with a ragged axis of the input is cut to it, others are left whole."""
    outputs = (TensorSpec("logits", "FP32", ("batch", "sequence", 2)), TensorSpec("score", "FP32", ("batch",)))
    batch = {"logits": np.arange(18, dtype=np.float32).reshape(3, 3, 2), "score": np.arange(3, dtype=np.float32)}
    first, second = split(outputs, batch, [1, 2], [{"sequence": 3}, {"sequence": 1}])
    assert first["logits"].shape == (1, 3, 2)
    assert second["logits"].tolist() == [[[6.0, 7.0]], [[12.0, 13.0]]]
    assert second["score"].tolist() == [1.0, 2.0]


def test_outputs_not_asked_for_are_passed_over_and_unknown_axes_left_whole():
    """Only the outputs that came are split; an axis that the inputs do not have stays."""
    outputs = (TensorSpec("found", "FP32", ("batch", "boxes")), TensorSpec("other", "FP32", ("batch",)))
    (answer,) = split(outputs, {"found": np.zeros((1, 6), np.float32)}, [1], [{"sequence": 2}])
    assert answer["found"].shape == (1, 6)
    assert "other" not in answer


def test_outputs_with_other_rows_than_the_batch_are_refused():
    """A graph that drops the batch axis cannot hand one request another's rows."""
    with pytest.raises(TensorError, match="3 rows expected"):
        split((TensorSpec("y", "FP32", ("batch",)),), {"y": np.zeros(2, np.float32)}, [1, 2], [{}, {}])


def test_ragged_lengths_are_those_of_the_request():
    """Fixed axes and the batch axis are no lengths."""
    assert ragged_lengths(TOKENS, tokens(2, 5)) == {"sequence": 5}
    assert ragged_lengths(DENSE, {"x": np.zeros((1, 4), np.float32)}) == {}


def test_numeric_tensors_cross_the_wire_without_a_copy():
    """Both ways look at the same memory."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    back = from_wire("FP32", [2, 3], to_wire(array, "FP32"))
    assert np.shares_memory(array, back)
    assert back.tolist() == array.tolist()


def test_a_view_that_is_not_contiguous_is_written_row_by_row():
    """A cut output goes out in row-major order."""
    array = np.arange(6, dtype=np.int64).reshape(2, 3)[:, :2]
    assert from_wire("INT64", [2, 2], to_wire(array, "INT64")).tolist() == [[0, 1], [3, 4]]


def test_bytes_elements_are_length_and_content():
    """The form of a BYTES element is u32 little-endian length, then its bytes."""
    wire = to_wire(np.array([b"ab", b""], object), "BYTES")
    assert wire.tobytes() == b"\x02\x00\x00\x00ab\x00\x00\x00\x00"
    assert from_wire("BYTES", [2, 1], wire).tolist() == [[b"ab"], [b""]]


def test_another_dtype_is_not_written():
    """The bytes on the wire are those that the datatype promises."""
    with pytest.raises(TensorError, match="y: datatype FP32 expected, got FP64"):
        to_wire(np.zeros(1), "FP32", "y")


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "words"),
    [
        ("FP32", [2], b"\0" * 7, "takes 8 bytes, got 7"),
        ("FP32", [-1], b"", "negative extent"),
        ("FP32", [-2, -2], b"\0" * 16, "negative extent"),
        ("FP32", [2**62, 4], b"", f"takes {2**66} bytes, got 0"),
        ("FP32", [2**32, 2**32], b"", f"takes {2**66} bytes, got 0"),
        ("FP32", [0, 2**70], b"", "too large"),
        ("FP32", [1] * 100, b"\0" * 4, "too large"),
        ("BYTES", [2**40], b"\0" * 8, "cannot hold them"),
        ("BYTES", [1], b"\xff\xff\xff\xffa", "element 0 ends"),
        ("BYTES", [2], b"\4\0\0\0abcd", "element 1 has no length"),
        ("BYTES", [2], b"\2\0\0\0ab\0\0", "element 1 has no length"),
        ("BYTES", [1], b"\0\0\0\0\0", "1 bytes left"),
        ("BOOL", [2], b"\1\2", "BOOL elements are 0 or 1"),
        ("FP8", [1], b"\0", "datatype FP8 is unknown"),
    ],
)
def test_bytes_that_do_not_fit_their_shape_are_malformed(datatype, shape, data, words):
    """Nothing is allocated for a shape that the bytes do not bear out, however large or negative it is."""
    with pytest.raises(TensorError) as error:
        from_wire(datatype, shape, memoryview(data), "x")
    assert error.value.reason == "malformed"
    assert words in str(error.value)


def test_every_numeric_datatype_has_the_size_of_the_protocol():
    """Bytes per element follow the Open Inference Protocol."""
    sizes = {name: dtype.itemsize for name, dtype in DTYPES.items() if name != "BYTES"}
    bits = {name: int("".join(filter(str.isdigit, name)) or 8) for name in sizes}
    assert sizes == {name: count // 8 for name, count in bits.items()}
