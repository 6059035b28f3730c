"""What the worker thread of a model writes down of what fails."""

from __future__ import annotations

import logging
from concurrent.futures import Future

import numpy as np
import pytest

from deployments.backends.base import BackendError, InputError
from deployments.lane import BatchResult, Lane
from models.spec import BatchRule, ModelSpec, TensorSpec
from models.tensors import to_wire
from router.protocol.link import Item, Tensor

SPEC = ModelSpec(
    "m", "1", (TensorSpec("x", "FP32", ("batch",)),), (TensorSpec("y", "FP32", ("batch",)),), BatchRule(8), ()
)


class Picky:
    """A backend that gives back what it was given, and fails where a value is below 0."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def run(self, inputs, outputs):
        """See Backend."""
        if inputs["x"].min() < 0:
            raise self._error
        return {"y": inputs["x"]}

    def close(self):
        """See Backend."""


def sent(number, value):
    """A request of one row."""
    x = Tensor("x", "FP32", [1], to_wire(np.array([value], np.float32), "FP32"))
    return Item(number, "m", "", 0, 1, "t", "", f"request-{number}", 1, [], [x])


@pytest.mark.parametrize(
    ("error", "reason", "level"),
    [
        (BackendError("node /a/b on provider P: broken"), "backend_failed", logging.WARNING),
        (InputError("x: index out of range"), "malformed", logging.INFO),
    ],
)
def test_what_a_backend_says_is_logged_with_the_request(error, reason, level, caplog):
    """The client may be told less: the log of the replica has it all, once, for the culprit alone."""
    caplog.set_level(logging.INFO, "pointsman.lane")
    lane = Lane(SPEC, Picky(error), None)
    try:
        done: Future[BatchResult] = Future()
        lane.submit([sent(1, 1.0), sent(2, -1.0)], done.set_result)
        good, bad = done.result(10.0).results
    finally:
        lane.close()
    assert (good.reason, bad.reason, bad.detail) == ("", reason, str(error))
    (line,) = caplog.records
    assert line.levelno == level
    assert line.getMessage() == f"model m: request request-2 failed: {error}"
