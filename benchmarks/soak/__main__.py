"""`make soak`: a million requests of every kind through one router; its memory and file descriptors all along.

Passes where the router stays under MAX_RSS_BYTES and flat, descriptors come back to where they were, and every request
ended as its kind should.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

import uvloop

from benchmarks.http import isolate
from benchmarks.http.fleets import pointsman_fleet
from benchmarks.http.process import Running, marked, running
from benchmarks.http.systems import pointsman
from benchmarks.http.workload import fetch, load_workload
from benchmarks.soak.load import Mix, soak
from benchmarks.soak.memory import MIB, Sample, look, mappings, plot

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "build/models/mlp/1/model.onnx"
MAX_RSS_BYTES = 300 * MIB
FLAT_BYTES = 8 * MIB
"""By how much the last quarter's mean may be above the second quarter's."""
RAYS_OWN = 4
"""File descriptors by which Ray's own connections come and go."""
SETTLE_S = 5.0
"""After the load, before descriptors are counted for the last time."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--every-s", type=float, default=1.0, help="between two samples")
    parser.add_argument("--out", type=Path, help="write all samples here as JSON lines")
    return parser.parse_args()


def router_pid(started: Running) -> int:
    """The one router replica."""
    (router,) = [
        process for process in marked(started.mark) if any("RouterReplica" in word for word in process.cmdline())
    ]
    return router.pid


def made_of(pid: int, top: int = 12) -> str:
    """Where the resident memory of a process comes from, the largest first."""
    resident = mappings(pid)
    lines = [f"  {size / MIB:7.1f} MiB  {name}" for name, size in resident.most_common(top)]
    rest = sum(resident.values()) - sum(size for _, size in resident.most_common(top))
    return "\n".join([*lines, f"  {rest / MIB:7.1f} MiB  {len(resident) - top} others"])


async def measure(started: Running, args: argparse.Namespace) -> tuple[list[Sample], Counter[str]]:
    """Soak the running fleet and sample its router all along, before and after."""
    pid, began_s, ended = router_pid(started), time.monotonic(), 0
    key = started.system.headers["Authorization"].removeprefix("Bearer ")
    _, about = fetch(started.system.port, "GET", "/v2", b"", {})
    mix = Mix(key, "binary_tensor_data" in json.loads(about)["extensions"])
    samples = [look(pid, 0.0, 0)]

    def tell(count: int) -> None:
        nonlocal ended
        ended = count

    async def sample_forever() -> None:
        while True:
            await asyncio.sleep(args.every_s)
            samples.append(look(pid, time.monotonic() - began_s, ended))

    sampler = asyncio.create_task(sample_forever())
    seen = await soak(started.system.port, mix, args.requests, args.clients, tell)
    sampler.cancel()
    await asyncio.sleep(SETTLE_S)
    samples.append(look(pid, time.monotonic() - began_s, args.requests))
    return samples, seen


def faults(samples: list[Sample], seen: Counter[str]) -> list[str]:
    """What is not as it should be."""
    found = [
        f"{count} times {what}" for what, count in seen.items() if not what.endswith((": as expected", ": hung up"))
    ]
    most = max(sample.rss_bytes for sample in samples)
    if most > MAX_RSS_BYTES:
        found.append(f"{most / MIB:.0f} MiB resident, the limit is {MAX_RSS_BYTES / MIB:.0f}")
    quarter = len(samples) // 4
    if quarter:
        second, last = samples[quarter : 2 * quarter], samples[-quarter:]
        grown = sum(s.rss_bytes for s in last) / len(last) - sum(s.rss_bytes for s in second) / len(second)
        if grown > FLAT_BYTES:
            found.append(f"the last quarter held {grown / MIB:.1f} MiB more than the second")
    if samples[-1].descriptors > samples[0].descriptors + RAYS_OWN:
        found.append(f"{samples[0].descriptors} file descriptors before, {samples[-1].descriptors} after")
    return found


def report(samples: list[Sample], seen: Counter[str]) -> None:
    """Print what was seen."""
    first, last = samples[0], samples[-1]
    took_s = samples[-2].at_s - first.at_s
    print(plot(samples))
    print(f"{last.ended:,} requests in {took_s:.0f} s, {last.ended / took_s:,.0f} a second")
    for name, values in {
        "resident MiB": [round(sample.rss_bytes / MIB, 1) for sample in samples],
        "private MiB": [round(sample.private_bytes / MIB, 1) for sample in samples],
        "descriptors": [sample.descriptors for sample in samples],
        "threads": [sample.threads for sample in samples],
    }.items():
        print(f"{name:13} idle {values[0]}, most {max(values)}, at the end {values[-1]}")
    for what, count in sorted(seen.items()):
        print(f"  {count:9,}  {what}")


def main() -> None:
    """Run the soak on a fleet of its own."""
    args = arguments()
    isolate.enter("benchmarks.soak")
    with tempfile.TemporaryDirectory(prefix="pmsoak-", dir="/tmp") as folder:
        scratch = Path(folder)
        system = pointsman("preferred", *pointsman_fleet("preferred", ROOT, scratch, MODEL.parents[2]))
        with running(system, load_workload(MODEL), ROOT, scratch) as started:
            print(f"an idle router is made of\n{made_of(router_pid(started))}", flush=True)
            samples, seen = uvloop.run(measure(started, args))
            print(f"after the load it is made of\n{made_of(router_pid(started))}", flush=True)
    if args.out:
        args.out.write_text("".join(json.dumps(sample.__dict__) + "\n" for sample in samples))
    report(samples, seen)
    if found := faults(samples, seen):
        raise SystemExit("NOT as it should be: " + "; ".join(found))
    print("as it should be")


if __name__ == "__main__":
    main()
