"""What holds for every batch and every tensor on the wire."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.spec import TensorSpec
from models.tensors import DTYPES, TensorError, check, from_wire, ragged_lengths, split, stack, to_wire

SPECS = (
    TensorSpec("ids", "INT64", ("batch", "sequence"), pad=-1),
    TensorSpec("grid", "FP32", ("batch", 2, "sequence", "width"), pad=0.5),
    TensorSpec("text", "BYTES", ("batch", "width")),
    TensorSpec("dense", "FP16", ("batch", 3)),
)
EXTENTS = st.integers(1, 4)


@st.composite
def requests(draw) -> dict[str, np.ndarray]:
    """One well-formed request of SPECS."""
    extents = {name: draw(EXTENTS) for name in ("batch", "sequence", "width")}
    arrays = {}
    for spec in SPECS:
        shape = tuple(axis if isinstance(axis, int) else extents[axis] for axis in spec.shape)
        elements = st.binary(max_size=3) if spec.datatype == "BYTES" else None
        arrays[spec.name] = draw(hnp.arrays(DTYPES[spec.datatype], shape, elements=elements))
    return arrays


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and to_wire(a, name(a)) == to_wire(b, name(b))


def name(array: np.ndarray) -> str:
    return next(name for name, dtype in DTYPES.items() if dtype == array.dtype)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(requests(), min_size=1, max_size=5))
def test_split_gives_back_what_stack_was_given(batch):
    """Whatever the lengths, each request gets its own rows at its own lengths, bit for bit."""
    rows = [check((SPECS,), request) for request in batch]
    stacked = stack(SPECS, batch)
    assert check((SPECS,), stacked) == sum(rows)
    answers = split(SPECS, stacked, rows, [ragged_lengths(SPECS, request) for request in batch])
    for request, answer in zip(batch, answers, strict=True):
        assert request.keys() == answer.keys()
        assert all(same(request[key], answer[key]) for key in request)


@settings(deadline=None)
@given(requests())
def test_the_wire_gives_back_what_it_was_given(request):
    """Every datatype survives the stream."""
    for spec in SPECS:
        array = request[spec.name]
        assert same(array, from_wire(spec.datatype, array.shape, to_wire(array, spec.datatype)))


@settings(deadline=None)
@given(
    st.sampled_from([*DTYPES, "FP8"]),
    st.lists(st.integers(-(2**70), 2**70) | st.integers(0, 4), max_size=4),
    st.binary(max_size=64),
)
def test_whatever_arrives_is_an_array_of_that_shape_or_a_tensor_error(datatype, shape, data):
    """No bytes and no shape make anything else happen."""
    try:
        array = from_wire(datatype, shape, memoryview(data))
    except TensorError:
        return
    assert array.shape == tuple(shape)
    assert to_wire(array, datatype).tobytes() == data
