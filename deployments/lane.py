"""The worker thread of one model in a replica: tensors in, one batch through the backend, tensors out.

Owns the thread. Takes whole batches and returns one result per item; a bad item never fails its batch.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from deployments.backends.base import Backend, InputError, Placement
from models import tensors
from models.pipeline import TextPipeline
from models.spec import ModelSpec
from models.tensors import Arrays, TensorError
from router.protocol.link import Item, Tensor

log = logging.getLogger("pointsman.lane")


class Result(msgspec.Struct):
    """What became of one item of a batch; `reason` "" is success."""

    reason: str
    detail: str
    tensors: list[Tensor]
    dispatched: bool = True
    """Whether the model may have run."""
    version: str = ""
    """Version of the model that ran, where that is not the granted one."""


class BatchResult(msgspec.Struct):
    """One batch after its run. `form_s`: decode, tokenise, stack and split; `run_s`: in the backend."""

    results: list[Result]
    form_s: float
    run_s: float
    rows: int


class Worker(Protocol):
    """What runs the batches of one model."""

    forwards: bool
    """Items go on to another server, which is told what is left of their budget; each comes as a batch of its own."""

    def submit(self, items: Sequence[Item], on_done: Callable[[BatchResult], None]) -> Callable[[], None] | None:
        """Run a batch; `on_done` is called once, from any thread. Returns what ends it before its time, if anything."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether it can still run anything."""
        ...

    @property
    def placement(self) -> Placement:
        """Where batches run."""
        ...

    @property
    def overruns(self) -> int:
        """See Backend.overruns."""
        ...

    def check_health(self) -> None:
        """See Backend.check_health."""

    def close(self) -> None:
        """End it after what was submitted. May block."""
        ...


class Lane:
    """One model's worker thread. Batches run one after the other, in the order submitted. A Worker."""

    forwards = False

    def __init__(self, spec: ModelSpec, backend: Backend, pipeline: TextPipeline | None) -> None:
        self.spec = spec
        self.backend = backend
        self._pipeline = pipeline
        self._datatypes = {output.name: output.datatype for output in spec.outputs}
        self._jobs: queue.SimpleQueue[tuple[Sequence[Item], Callable[[BatchResult], None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"lane-{spec.name}", daemon=True)
        self._thread.start()

    def submit(self, items: Sequence[Item], on_done: Callable[[BatchResult], None]) -> None:
        """Run a batch. `on_done` is called on the worker thread, always, whatever went wrong."""
        self._jobs.put((items, on_done))

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def placement(self) -> Placement:
        """See Worker.placement."""
        return self.backend.placement

    @property
    def overruns(self) -> int:
        """See Worker.overruns."""
        return self.backend.overruns

    def check_health(self) -> None:
        """See Worker.check_health."""
        self.backend.check_health()

    def close(self) -> None:
        """End the thread after the batches already submitted, then the backend."""
        self._jobs.put(None)
        self._thread.join()
        self.backend.close()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            items, on_done = job
            try:
                result = self._run(items)
            except BaseException as error:  # the thread must outlive whatever a backend or a tokenizer does
                log.exception("model %s: batch failed", self.spec.name)
                result = BatchResult([Result("backend_failed", str(error), []) for _ in items], 0.0, 0.0, 0)
            on_done(result)

    def _run(self, items: Sequence[Item]) -> BatchResult:
        started_s = time.perf_counter()
        results: list[Result | None] = [None] * len(items)
        good: list[int] = []
        decoded: list[Arrays] = []
        for index, item in enumerate(items):
            try:
                decoded.append(self._decode(item))
                good.append(index)
            except TensorError as error:
                results[index] = Result(error.reason, str(error), [])
            except Exception as error:
                log.exception("model %s: an item could not be decoded", self.spec.name)
                results[index] = Result("backend_failed", str(error), [])
        run_s = 0.0
        rows = 0
        if good:
            batch = [items[index] for index in good]
            outcomes, run_s = self._run_decoded(batch, decoded)
            rows = sum(item.rows for item in batch)
            for index, outcome in zip(good, outcomes, strict=True):
                results[index] = outcome
        form_s = time.perf_counter() - started_s - run_s
        return BatchResult([result for result in results if result is not None], form_s, run_s, rows)

    def _run_decoded(self, items: Sequence[Item], decoded: list[Arrays]) -> tuple[list[Result], float]:
        """Run together; if that fails, each alone, so that only the culprit fails."""
        started_s = time.perf_counter()
        try:
            return self._run_stacked(items, decoded)
        except Exception as error:  # a backend of another package may raise anything
            if len(items) == 1:
                return [self._failed(items[0], error)], time.perf_counter() - started_s
        results = [self._run_decoded([item], [arrays])[0][0] for item, arrays in zip(items, decoded, strict=True)]
        return results, time.perf_counter() - started_s

    def _failed(self, item: Item, error: Exception) -> Result:
        """What a backend says of one item, which may be more than the router lets a client see: kept here in full."""
        theirs = isinstance(error, InputError)
        # Whoever sends bad values must not be able to fill the log with warnings.
        level = logging.INFO if theirs else logging.WARNING
        log.log(level, "model %s: request %s failed: %s", self.spec.name, item.request_id, error)
        return Result("malformed" if theirs else "backend_failed", str(error), [])

    def _run_stacked(self, items: Sequence[Item], decoded: list[Arrays]) -> tuple[list[Result], float]:
        spec = self.spec
        stacked = tensors.stack(spec.inputs, decoded)
        started_s = time.perf_counter()
        outputs = self.backend.run(stacked, _wanted(items))
        run_s = time.perf_counter() - started_s
        rows = [item.rows for item in items]
        lengths = [tensors.ragged_lengths(spec.inputs, arrays) for arrays in decoded]
        answers = tensors.split(spec.outputs, outputs, rows, lengths)
        return [self._encode(item, arrays) for item, arrays in zip(items, answers, strict=True)], run_s

    def _decode(self, item: Item) -> Arrays:
        arrays = {t.name: tensors.from_wire(t.datatype, t.shape, t.data, t.name) for t in item.tensors}
        rows = tensors.check(self.spec.accepted_inputs(), arrays)
        if rows != item.rows:
            raise TensorError("malformed", f"{item.rows} rows were announced, the tensors hold {rows}")
        for name in item.outputs:
            if name not in self._datatypes:
                raise TensorError("malformed", f"unknown output {name}, known: {', '.join(self._datatypes)}")
        text = self.spec.text
        if self._pipeline is not None and text is not None and text.tensor.name in arrays:
            return self._pipeline.encode(arrays[text.tensor.name])
        return arrays

    def _encode(self, item: Item, arrays: Arrays) -> Result:
        names = item.outputs or list(arrays)
        out = []
        for name in names:
            datatype = self._datatypes[name]
            array = arrays[name]
            out.append(Tensor(name, datatype, list(array.shape), tensors.to_wire(array, datatype, name)))
        return Result("", "", out)


def _wanted(items: Sequence[Item]) -> tuple[str, ...]:
    """Outputs to compute: () for all where some item wants all."""
    names: dict[str, None] = {}
    for item in items:
        if not item.outputs:
            return ()
        names.update(dict.fromkeys(item.outputs))
    return tuple(names)
