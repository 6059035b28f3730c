"""The binary tensor extension of the Open Inference Protocol, inbound: which bytes behind the JSON are whose.

`inference-header-content-length` says how long the JSON is; behind it lie the binary tensors in the order of their
inputs, each as long as its `binary_data_size`. Every size must fit its shape, and together they must fill the body.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from models.tensors import DTYPES, TensorError, from_wire
from router.core.errors import RequestError
from router.protocol.codec import Body

JSON_LENGTH = "inference-header-content-length"
"""The header, in requests and answers."""

_LEAST_BYTES = {datatype: dtype.itemsize for datatype, dtype in DTYPES.items()} | {"BYTES": 4}
"""Bytes of one element; of a BYTES element, its length alone."""


def divided(body: Body, json_bytes: int) -> tuple[memoryview, BinaryData]:
    """The JSON of a body and what lies behind it. Raises RequestError (malformed) where the body is shorter."""
    view = memoryview(body)
    if json_bytes > view.nbytes:
        raise RequestError("malformed", f"{JSON_LENGTH} is {json_bytes}, the body has {view.nbytes} bytes")
    return view[:json_bytes], BinaryData(view[json_bytes:])


class BinaryData:
    """The binary tensors of one request, taken one after the other."""

    __slots__ = ("_data",)

    def __init__(self, data: memoryview) -> None:
        """`data` must not change while an array of them lives."""
        self._data = data

    def take(self, name: str, datatype: str, shape: Sequence[int], size: int) -> np.ndarray:
        """The next `size` bytes (>= 0) as a read-only array; numbers are not copied.

        Raises RequestError: malformed, shape_mismatch where they are not as many as the shape takes.
        """
        if datatype not in DTYPES:
            known = ", ".join(DTYPES)
            raise RequestError("malformed", f"input {name!r}: unknown datatype {datatype!r}, expected one of {known}")
        left = self._data.nbytes
        if size > left:
            raise RequestError(
                "malformed", f"input {name!r}: binary_data_size is {size}, {left} bytes of binary data are left"
            )
        least = math.prod(shape) * _LEAST_BYTES[datatype]
        # `least` may have too many digits to be printed.
        if size < least or (size > least and datatype != "BYTES"):
            raise RequestError("shape_mismatch", f"input {name!r}: {datatype} {list(shape)} does not take {size} bytes")
        data, self._data = self._data[:size], self._data[size:]
        try:
            array = from_wire(datatype, shape, data, f"input {name!r}")
        except TensorError as error:
            raise RequestError(error.reason, str(error)) from None
        array.flags.writeable = False
        return array

    def finish(self) -> None:
        """Raises RequestError (malformed) where bytes are left that no input has claimed."""
        if self._data.nbytes:
            raise RequestError("malformed", f"{self._data.nbytes} bytes of binary data belong to no input")
