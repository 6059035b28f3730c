"""`make bench`: the same model and load against each system in turn, several rounds, then tables and ratios.

Owns the order of steps and the command line. Everything runs on the loopback of a private network where there is one.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import psutil

from benchmarks.http import isolate, load, table
from benchmarks.http.fleets import pointsman_fleets
from benchmarks.http.process import NotReady, Running, running
from benchmarks.http.systems import System, peers
from benchmarks.http.venvs import on_demand
from benchmarks.http.workload import Workload, WrongAnswer, largest_error, load_workload, session_times_s

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"
CONNECTIONS = [1, 32, 128]
WARM_UP_S = 3
DEFAULT = [
    "ray-default",
    "ray-batched-x1",
    "mosec-b16-x1",
    "mosec-b8-x2",
    "pointsman-preferred",
    "pointsman-equal",
]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http.run", description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "build/models/mlp/1/model.onnx")
    parser.add_argument("--seconds", type=int, default=6, help="length of one wrk run")
    parser.add_argument("--rounds", type=int, default=2, help="how often every system is started and measured")
    parser.add_argument("--cpus", type=int, default=2, help="cores that servers and wrk share")
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS)
    parser.add_argument("--only", default=",".join(DEFAULT), help="systems, comma separated; see --list")
    parser.add_argument("--with", dest="extra", default="", help="further ones: mlserver, litserve, floor, ...")
    parser.add_argument("--list", action="store_true", help="print the names of all systems and leave")
    parser.add_argument("--out", type=Path, help="report without suffix (default: results/<date>)")
    return parser.parse_args()


def machine_facts(args: argparse.Namespace, private: bool) -> dict[str, str]:
    """What was measured on what."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    packages = ["ray", "onnxruntime", "mosec", "uvicorn", "uvloop", "orjson", "numpy"]
    one, five, _ = os.getloadavg()
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{len(os.sched_getaffinity(0))} of {psutil.cpu_count()} cores, {cpu}, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "software": f"Python {platform.python_version()}, " + ", ".join(f"{p} {version(p)}" for p in packages),
        "model": f"{args.model.name}, one row of 256 FP32 a request, OIP JSON in and out, one ORT thread a session",
        "load": f"wrk, 1 thread on the same cores, closed loop, {args.seconds} s a run, {args.rounds} rounds",
        "network": "private loopback" if private else "loopback of the machine",
        "load average when it began": f"{one:.1f} (1 min), {five:.1f} (5 min)",
    }


def names_asked(args: argparse.Namespace) -> list[str]:
    """Names of --only and --with."""
    return [name for name in f"{args.only},{args.extra}".split(",") if name]


def choose(args: argparse.Namespace, scratch: Path) -> list[System]:
    """The systems asked for, in the order asked. Ends the program for an unknown name."""
    names = names_asked(args)
    known = {**peers(), **pointsman_fleets(names, ROOT, scratch, args.model), **on_demand(names, ROOT)}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"unknown systems: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return [known[name] for name in dict.fromkeys(names)]


def measure(started: Running, work: Workload, args: argparse.Namespace, scratch: Path) -> list[load.Measured]:
    """Warm up, then one wrk run for each connection count."""
    script = scratch / "request.lua"
    load.write_script(script, work.body(), started.system.headers)
    load.wrk(script, started.system.port, max(args.connections), WARM_UP_S)
    runs = []
    for connections in args.connections:
        before_s = started.cpu_s()
        raw = load.wrk(script, started.system.port, connections, args.seconds)
        run = load.measured(raw, connections, started.cpu_s() - before_s)
        runs.append(run)
        print(
            f"  c={connections:<4}{run.answered_per_s:>10,.0f}/s  p50 {run.p50_s * 1e3:.2f} ms"
            f"  p99 {run.p99_s * 1e3:.2f} ms  errors {run.status_errors + run.socket_errors}"
            f"  CPU {run.server_cpu_per_request_s * 1e6:,.0f} µs/answer",
            flush=True,
        )
    return runs


def visit(
    started: Running, result: table.SystemResult, work: Workload, args: argparse.Namespace, scratch: Path
) -> None:
    """One round on one running system: check its answers, load it, write down what was seen."""
    result.ready_s.append(started.ready_s)
    if started.system.family != "floor":
        error = largest_error(work, started.system.port, started.system.headers)
        result.largest_error = max(result.largest_error, error)
    result.runs += measure(started, work, args, scratch)
    result.rss_bytes = started.rss_bytes()


def bench(args: argparse.Namespace, private: bool, scratch: Path) -> table.Report:
    """All rounds over all systems: A B C, A B C, so that a noisy minute does not fall on one of them alone."""
    systems = choose(args, scratch)
    work = load_workload(args.model)
    results = {s.name: table.SystemResult(s.name, s.family, s.note) for s in systems}
    facts, times = machine_facts(args, private), []
    for turn in range(args.rounds):
        times.append(session_times_s(work, 1.0))
        for system in systems:
            print(f"round {turn + 1}/{args.rounds}: {system.name} ({system.note})", flush=True)
            try:
                with running(system, work, ROOT, scratch) as started:
                    visit(started, results[system.name], work, args, scratch)
            except (NotReady, WrongAnswer) as error:
                results[system.name].failures.append(str(error).splitlines()[0])
                print(f"  FAILED {error}", flush=True)
    session = np.concatenate(times)
    p50_s, p99_s = (float(np.percentile(session, q)) for q in (50, 99))
    return table.Report(facts, p50_s, p99_s, args.connections, list(results.values()))


def main() -> None:
    """Run the bench, write <out>.md and <out>.json, print the report."""
    args = arguments()
    if args.list:
        print("\n".join(sorted([*peers(), "pointsman-preferred", "pointsman-equal", "mlserver", "litserve"])))
        return
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    if not args.model.is_file():
        raise SystemExit(f"no model at {args.model}: build it with python -m models.zoo.build, or say --model PATH")
    on_demand(names_asked(args), ROOT)  # installs what is missing: inside the private network nothing can be fetched
    private = isolate.enter("benchmarks.http.run")
    out = args.out or RESULTS / datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    # The targets are for two cores: with more, what a system may use decides, not what it does with it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cpus])
    # A short path: Ray keeps Unix sockets below it, and those end at 107 characters.
    with tempfile.TemporaryDirectory(prefix="pmbench-", dir="/tmp") as folder:
        report = bench(args, private, Path(folder))
    text = table.markdown(report)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text(text)
    out.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    print(f"\n{text}\nwritten: {out.with_suffix('.md')}")
    if any(system.failures for system in report.systems):
        raise SystemExit("some systems failed, see above")


if __name__ == "__main__":
    main()
