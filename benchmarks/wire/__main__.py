"""`make bench-wire`: servers in turn on JSON, binary tensors and gRPC; answers/s, p50 and p99 of each, as a table.

Owns the order of steps and the command line. Each server is checked to answer as the session does before it is loaded.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.http import isolate
from benchmarks.http.process import NotReady, Running, running
from benchmarks.http.venvs import REQUIREMENTS, environment
from benchmarks.http.workload import TOLERANCE, WIDTH, Workload, load_workload
from benchmarks.wire.load import Run, over_grpc, over_http
from benchmarks.wire.systems import NAMES, Speaker, speakers

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "build/models/mlp/1/model.onnx"
CLIENTS = ROOT / ".venv-clients/bin/python"
BODIES = Path(__file__).with_name("bodies.py")
WARM_UP_S = 2


class Row(msgspec.Struct):
    """What one server did with one form. `failure`: why it did not."""

    server: str
    form: str
    runs: list[Run] = []
    largest_error: float = 0.0
    failure: str = ""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=__doc__)
    parser.add_argument("--seconds", type=int, default=6, help="length of one run")
    parser.add_argument("--rounds", type=int, default=2, help="how often every server is started and measured")
    parser.add_argument("--cpus", type=int, default=os.cpu_count(), help="cores that server and generator share")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--only", default=",".join(NAMES), help="servers, comma separated")
    parser.add_argument("--forms", default="json,binary,grpc")
    parser.add_argument("--out", type=Path, help="report without suffix (default: results/<date>)")
    return parser.parse_args()


def tritonclient(*words: str) -> str:
    """Run bodies.py in the environment of the clients. Raises RuntimeError with its words."""
    done = subprocess.run([str(CLIENTS), str(BODIES), *words], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout


def load(speaker: Speaker, form: str, folder: Path, connections: int, seconds: int) -> Run:
    """One run of the generator of that form."""
    headers = {"authorization": f"Bearer {speaker.key}"} if speaker.key else {}
    body = folder / f"{form}.body"
    if form == "grpc":
        run = over_grpc(folder, body, headers, speaker.grpc_port, connections, seconds)
        if run.data_bytes < WIDTH * 4:
            raise RuntimeError(f"gRPC answers of {run.data_bytes:.0f} bytes are errors")
        return run
    if form == "binary":
        headers |= msgspec.json.decode((folder / "binary.headers").read_bytes())
    return over_http(folder, body, headers, speaker.system.port, connections, seconds)


def visit(started: Running, speaker: Speaker, form: str, folder: Path, args: argparse.Namespace, row: Row) -> None:
    """Check one form of a running server, warm it, measure it."""
    port = speaker.grpc_port if form == "grpc" else speaker.system.port
    error = float(tritonclient("check", str(folder), form, f"127.0.0.1:{port}", speaker.key))
    row.largest_error = max(row.largest_error, error)
    if not error <= TOLERANCE:
        raise RuntimeError(f"answers are off by {error:.2e}")
    load(speaker, form, folder, max(args.connections), WARM_UP_S)
    for connections in args.connections:
        run = load(speaker, form, folder, connections, args.seconds)
        row.runs.append(run)
        print(
            f"  {form:7} c={connections:<4}{run.answered_per_s:>9,.0f}/s  p50 {run.p50_s * 1e3:6.2f} ms"
            f"  p99 {run.p99_s * 1e3:6.2f} ms  errors {run.errors}",
            flush=True,
        )


def bench(args: argparse.Namespace, work: Workload, folder: Path) -> list[Row]:
    """All rounds over all servers: A B C, A B C, so that a noisy minute does not fall on one of them alone."""
    rows: dict[tuple[str, str], Row] = {}
    asked = args.forms.split(",")
    for turn in range(args.rounds):
        for speaker in speakers(args.only.split(","), ROOT, folder, MODEL.parents[2]):
            name = speaker.system.family
            print(f"round {turn + 1}/{args.rounds}: {name} ({speaker.system.note})", flush=True)
            forms = [form for form in asked if form in speaker.forms]
            try:
                with running(speaker.system, work, ROOT, folder) as started:
                    for form in forms:
                        row = rows.setdefault((name, form), Row(name, form))
                        try:
                            visit(started, speaker, form, folder, args, row)
                        except RuntimeError as error:
                            row.failure = str(error)
                            print(f"  {form:7} FAILED {error}", flush=True)
            except NotReady as error:
                rows |= {(name, form): Row(name, form, failure=str(error).splitlines()[0]) for form in forms}
                print(f"  FAILED {error}", flush=True)
    return list(rows.values())


def markdown(rows: list[Row], args: argparse.Namespace) -> str:
    """The report: for each form and number of clients, the median of the rounds."""
    lines = []
    for form in args.forms.split(","):
        heads = "".join(f" c={c} answers/s | c={c} p50 ms | c={c} p99 ms |" for c in args.connections)
        lines += [f"### {form}", "", f"| server |{heads} errors |", "|---" * (3 * len(args.connections) + 2) + "|"]
        for row in (row for row in rows if row.form == form):
            if row.failure:
                lines.append(f"| {row.server} | {row.failure} |")
                continue
            cells = ""
            for connections in args.connections:
                runs = [run for run in row.runs if run.connections == connections]
                rate, p50, p99 = (
                    np.median([getattr(run, key) for run in runs]) for key in ("answered_per_s", "p50_s", "p99_s")
                )
                cells += f" {rate:,.0f} | {p50 * 1e3:.2f} | {p99 * 1e3:.2f} |"
            lines.append(f"| {row.server} |{cells} {sum(run.errors for run in row.runs)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run the bench, write <out>.md and <out>.json, print the tables."""
    args = arguments()
    for tool, package in (("wrk", "wrk"), ("h2load", "nghttp2-client")):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is missing: apt-get install {package}")
    if not CLIENTS.exists():
        raise SystemExit("no .venv-clients: make env-clients")
    # Installs what is missing: inside the private network nothing can be fetched.
    for name in set(args.only.split(",")) & REQUIREMENTS.keys():
        environment(name, ROOT)
    isolate.enter("benchmarks.wire")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cpus])
    work = load_workload(MODEL)
    with tempfile.TemporaryDirectory(prefix="pmwire-", dir="/tmp") as name:
        folder = Path(name)
        np.save(folder / "rows.npy", work.rows)
        np.save(folder / "answers.npy", work.answers)
        tritonclient("write", name)
        rows = bench(args, work, folder)
    text = markdown(rows, args)
    out = args.out or Path(__file__).parent / "results" / datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text(text)
    out.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    print(f"\n{text}\nwritten: {out.with_suffix('.md')}")


if __name__ == "__main__":
    main()
