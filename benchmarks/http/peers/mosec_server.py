"""mosec: a Rust HTTP front with dynamic batching before Python workers.

mosec owns the command line (--address, --port), so ours come by environment: BENCH_WORKERS processes run the model on
batches of at most BENCH_BATCH rows (1: no batching).
"""

from __future__ import annotations

import os

import numpy as np
from mosec import Runtime, Server, Worker

from benchmarks.http.peers.codec import Model, decode
from benchmarks.http.workload import ROUTE


class Infer(Worker):
    """One stage: decode, run the batch, encode."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    def deserialize(self, data: bytes) -> np.ndarray:
        return decode(data)

    def forward(self, data: list[np.ndarray]) -> list[np.ndarray]:
        return self.model.run_many(data)

    def serialize(self, data: np.ndarray) -> bytes:
        return self.model.encode(data)


class InferAlone(Infer):
    """The same without batching: mosec then hands over one request, not a list."""

    def forward(self, data: np.ndarray) -> np.ndarray:
        return self.model.run(data)


def main() -> None:
    workers, rows = int(os.environ["BENCH_WORKERS"]), int(os.environ["BENCH_BATCH"])
    worker = Infer if rows > 1 else InferAlone
    # 1 ms is the shortest wait that mosec takes: 0 means its default of 10.
    stage = Runtime(worker, num=workers, max_batch_size=rows, max_wait_time=1)
    server = Server()
    server.register_runtime({ROUTE: [stage]})
    server.run()


if __name__ == "__main__":
    main()
