"""Holds a backend class against its contract, by running it: `pointsman backend check`, and tests of any package.

Owns the checks and their words. A check that fails says what was seen; the model's files stay as they are.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np

from deployments.backends import registry
from deployments.backends.base import Backend, BackendError, InputError, OptionError, parse_options
from deployments.backends.conformance_subject import Subject
from models import tensors

BATCHES = 20
"""Of each of two that run at a time."""
RELOADS = 5


class Finding(msgspec.Struct, frozen=True):
    """One check. `problem` is "" where it holds."""

    check: str
    problem: str


def check(subject: Subject) -> Iterator[Finding]:
    """Every check in turn, as it ends. Once the class or the model cannot be loaded, the rest is left out."""
    for words, run, needed in _CHECKS:
        try:
            problem = run(subject)
        except Exception as error:  # whatever a vendor's runtime raises
            problem = f"raised {type(error).__name__}: {error}"
        yield Finding(words, problem)
        if problem and needed:
            return
    subject.backend.close()


def _fits(subject: Subject) -> str:
    return registry.misfit(subject.factory)


def _takes_options(subject: Subject) -> str:
    parse_options(subject.factory.Options, subject.options)
    return ""


def _refuses_options(subject: Subject) -> str:
    try:
        parse_options(subject.factory.Options, {**subject.options, "no_such_option": 1})
    except OptionError as error:
        return "" if error.path == "no_such_option" else f"refused {error.path} in its place"
    return "no_such_option was taken"


def _loads(subject: Subject) -> str:
    at = subject.backend.placement
    return "" if at.provider and at.device else f"the placement names no provider or no device: {at}"


def _runs_the_largest(subject: Subject) -> str:
    answer = subject.backend.run(subject.batch, ())
    for tensor in subject.spec.outputs:
        array = answer.get(tensor.name)
        if array is None:
            return f"output {tensor.name} is missing"
        if len(array) != subject.rows or array.dtype != tensors.DTYPES[tensor.datatype]:
            return (
                f"output {tensor.name} is {array.dtype} of {len(array)} rows, not {tensor.datatype} of {subject.rows}"
            )
    return ""


def _answers_rightly(subject: Subject) -> str:
    for rows in sorted({1, 2, 3, subject.rows}):
        inputs = subject.inputs(rows)
        if problem := subject.differ(subject.backend.run(inputs, ()), subject.reference.run(inputs, ())):
            return f"{rows} rows: {problem}"
    return ""


def _rows_are_independent(subject: Subject) -> str:
    together = subject.backend.run(subject.batch, ())
    for row in {0, subject.rows // 2, subject.rows - 1}:
        alone = subject.backend.run({name: array[row : row + 1] for name, array in subject.batch.items()}, ())
        if problem := subject.differ({name: array[row : row + 1] for name, array in together.items()}, alone):
            return f"row {row}: {problem}"
    return ""


def _bad_rows_stay_alone(subject: Subject) -> str:
    rows = max(2, subject.rows)
    inputs = {name: array.copy() for name, array in subject.inputs(rows).items()}
    right = subject.backend.run(inputs, ())
    for array in inputs.values():
        if array.dtype == object:
            array[-1] = b"\xff\xfe"
        elif array.dtype.kind not in "biu":
            array[-1] = np.nan
    try:
        answer = subject.backend.run(inputs, ())
    except InputError:
        return ""
    return subject.differ({n: a[:-1] for n, a in answer.items()}, {n: a[:-1] for n, a in right.items()})


def _only_what_is_asked(subject: Subject) -> str:
    name = subject.spec.outputs[-1].name
    given = list(subject.backend.run(subject.batch, (name,)))
    return "" if given == [name] else f"asked for {name}, gave {', '.join(given) or 'nothing'}"


def _answers_stay(subject: Subject) -> str:
    first = subject.backend.run(subject.batch, ())
    kept = {name: array.copy() for name, array in first.items()}
    for _ in range(3):
        subject.backend.run(subject.inputs(subject.rows), ())
    changed = [name for name, array in first.items() if not np.array_equal(array, kept[name], equal_nan=_floats(array))]
    return f"the next batch changed {', '.join(changed)}: give arrays of their own" if changed else ""


def _floats(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"


def _bad_batches(subject: Subject) -> str:
    good = subject.inputs(1)
    before = subject.backend.run(good, ())
    missing = dict(list(good.items())[1:])
    for what, inputs, outputs in (("a missing input", missing, ()), ("an unknown output", good, ("no_such_output",))):
        try:
            subject.backend.run(inputs, outputs)
        except BackendError:
            continue
        except Exception as error:  # it ought to have been a BackendError
            return f"{what} raised {type(error).__name__}: {error}"
        return f"{what} was answered"
    return subject.differ(subject.backend.run(good, ()), before)


def _runs_on_another_thread(subject: Subject) -> str:
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(subject.backend.run, subject.batch, ()).result()
    return subject.differ(answer, subject.backend.run(subject.batch, ()))


def _runs_beside_others(subject: Subject) -> str:
    right = subject.backend.run(subject.batch, ())
    others = [subject.backend, subject.load()]

    def many(backend: Backend) -> str:
        problems = [subject.differ(backend.run(subject.batch, ()), right) for _ in range(BATCHES)]
        return next(filter(None, problems), "")

    with ThreadPoolExecutor(len(others)) as threads:
        problems = list(threads.map(many, others))
    others[1].close()
    return next(filter(None, problems), "")


def _is_well(subject: Subject) -> str:
    subject.backend.check_health()
    overruns = subject.backend.overruns
    return "" if isinstance(overruns, int) and overruns >= 0 else f"overruns is {overruns!r}, not a count"


def _closes(subject: Subject) -> str:
    backend = subject.load()
    backend.close()
    backend.close()
    try:
        backend.run(subject.batch, ())
    except BackendError:
        return ""
    return "ran after it was closed"


def _leaves_nothing(subject: Subject) -> str:
    before = _held()
    for _ in range(RELOADS):
        backend = subject.load()
        backend.run(subject.batch, ())
        backend.close()
        del backend
    gc.collect()
    more = [f"{now - then} {what}" for (what, then), now in zip(before.items(), _held().values(), strict=True)
            if now - then >= RELOADS]  # fmt: skip
    return f"{RELOADS} times loaded and closed left {' and '.join(more)}" if more else ""


def _held() -> dict[str, int]:
    """What this process holds open, by kind."""
    return {"threads": len(os.listdir("/proc/self/task")), "open files": len(os.listdir("/proc/self/fd"))}


_CHECKS: tuple[tuple[str, Callable[[Subject], str], bool], ...] = (
    ("the class fits the contract", _fits, True),
    ("the options given are taken", _takes_options, True),
    ("an unknown option is refused by its name", _refuses_options, False),
    ("the model loads, and all of it is on the device that the placement names", _loads, True),
    ("the largest batch has every output, of the model's datatypes", _runs_the_largest, True),
    ("answers are those of ONNX Runtime on the CPU", _answers_rightly, False),
    ("a row answers the same alone as among others", _rows_are_independent, False),
    ("a row of NaN or of no UTF-8 is an InputError, or changes no other row", _bad_rows_stay_alone, False),
    ("only the outputs asked for come back", _only_what_is_asked, False),
    ("an answer is not touched again", _answers_stay, False),
    ("a batch that cannot be run is a BackendError, and the next one is answered", _bad_batches, False),
    ("it runs on another thread than it was loaded on", _runs_on_another_thread, False),
    ("two of a process run at a time", _runs_beside_others, False),
    ("it says that it is well", _is_well, False),
    ("closing twice does no harm, running afterwards is a BackendError", _closes, False),
    ("closing leaves no thread and no open file", _leaves_nothing, False),
)
"""Words, check, and whether the checks below make no sense without it."""
