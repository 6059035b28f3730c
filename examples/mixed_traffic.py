"""Text, ranking and vision requests at a running fleet, and who answered: `mixed_traffic.py --key pm_...`

Half of the requests are in a hurry. Ends with a line for each accelerator class and pool: share, answers, times.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter, defaultdict
from typing import Any

import aiohttp
import numpy as np

SENTENCES = ("a quick brown fox", "the points are set for track two", "where does this train stop")
MODELS = ("minilm", "ranker", "textline")
TARGETS = ("20ms", "500ms")


def request_of(model: str, rng: random.Random) -> dict[str, Any]:
    """One row for a model of the bundled zoo, as Open Inference Protocol JSON."""
    if model == "minilm":
        return _infer(("text", [1], "BYTES", [rng.choice(SENTENCES)]))
    if model == "ranker":
        dense = [rng.gauss(0, 1) for _ in range(8)]
        categories = [rng.randrange(1000) for _ in range(6)]
        return _infer(("dense", [1, 8], "FP32", dense), ("categories", [1, 6], "INT64", categories))
    return _infer(("image", [1, 3, 48, 192], "FP32", [round(rng.uniform(-1, 1), 2) for _ in range(3 * 48 * 192)]))


def _infer(*tensors: tuple[str, list[int], str, list[Any]]) -> dict[str, Any]:
    keys = ("name", "shape", "datatype", "data")
    return {"inputs": [dict(zip(keys, tensor, strict=True)) for tensor in tensors]}


class Seen:
    """What came back: times of the answers by pool, and how many were refused by status and reason."""

    def __init__(self) -> None:
        self.times_s: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        self.refused: Counter[str] = Counter()

    def table(self) -> str:
        """One line for each class and pool, the busiest first."""
        total = sum(map(len, self.times_s.values()))
        lines = [f"{'class':22} {'pool':14} {'emulated':9} {'share':>6} {'answers':>8} {'p50 ms':>8} {'p99 ms':>8}"]
        for (accelerator, pool, emulated), times in sorted(self.times_s.items(), key=lambda item: -len(item[1])):
            p50, p99 = np.percentile(times, [50, 99]) * 1e3
            share = f"{len(times) / total:6.1%} {len(times):8} {p50:8.1f} {p99:8.1f}"
            lines.append(f"{accelerator:22} {pool:14} {emulated:9} {share}")
        lines += [f"not answered: {count} x {why}" for why, count in self.refused.most_common()]
        return "\n".join(lines)


async def client(session: aiohttp.ClientSession, url: str, end_s: float, rng: random.Random, seen: Seen) -> None:
    """One client: a request after the other until the time is up."""
    while time.monotonic() < end_s:
        model = rng.choice(MODELS)
        headers = {"x-pointsman-latency-target": rng.choice(TARGETS)}
        started_s = time.perf_counter()
        async with session.post(
            f"{url}/v2/models/{model}/infer", json=request_of(model, rng), headers=headers
        ) as reply:
            answer = await reply.json()
        if reply.status != 200:
            seen.refused[f"{reply.status} {answer.get('reason', '')} {model}"] += 1
            continue
        said = reply.headers
        emulated = "yes" if said.get("x-pointsman-emulated") == "true" else "no"
        seen.times_s[said["x-pointsman-accelerator"], said["x-pointsman-pool"], emulated].append(
            time.perf_counter() - started_s
        )


async def traffic(url: str, key: str, clients: int, seconds: float, seed: int) -> Seen:
    """Load the fleet with so many clients for so long."""
    seen = Seen()
    end_s = time.monotonic() + seconds
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        rngs = [random.Random(f"{seed}:{number}") for number in range(clients)]
        await asyncio.gather(*(client(session, url, end_s, rng, seen) for rng in rngs))
    return seen


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--key", required=True, help="key of a tenant, as `pointsman serve` shows it")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(asyncio.run(traffic(args.url, args.key, args.clients, args.seconds, args.seed)).table())


if __name__ == "__main__":
    main()
