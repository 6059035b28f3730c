"""Search for inputs that break what reads bytes: `python -m tests.fuzz [--cases N | --seconds S] [TARGET ...]`.

Coverage-guided, by libFuzzer through atheris: one process per target, which starts from corpus/<target>. Found is what
raises anything but the documented errors, hangs, grows, or answers what is not well formed. The input is kept under
build/fuzz/<target> and runs again with `--replay FILE`. A search by --seconds goes on from where the last one ended.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.worker import ROOT, TARGETS

CORPUS = Path(__file__).parent / "corpus"
TOKENS = Path(__file__).with_name("tokens.dict")
FOUND = ROOT / "build" / "fuzz"
CASE_TIMEOUT_S = 5
MAX_BYTES = 4096
RSS_LIMIT_MB = 2048
NOISE = ("#", "INFO:", "WARNING:", "stat::", "0x", "Base64:")
"""Lines of libFuzzer's that say nothing of what was found."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--cases", type=int, default=0, help="inputs for each target")
    parser.add_argument("--seconds", type=int, default=60, help="for each target, where --cases is not given")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path, help="run this one input through one target")
    args = parser.parse_args()
    if unknown := set(args.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    return args


def fuzz(target: str, args: argparse.Namespace) -> bool:
    """Run one target; whether nothing was found."""
    found = FOUND / target
    found.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.worker", target]
    if args.replay:
        command.append(str(args.replay))
    else:
        bound = f"-runs={args.cases}" if args.cases else f"-max_total_time={args.seconds}"
        own = found / "corpus"
        if args.cases:
            shutil.rmtree(own, ignore_errors=True)  # the same cases every time
        own.mkdir(exist_ok=True)
        command += [
            bound, f"-seed={args.seed}", f"-max_len={MAX_BYTES}", f"-timeout={CASE_TIMEOUT_S}",
            f"-rss_limit_mb={RSS_LIMIT_MB}", f"-artifact_prefix={found}/", f"-dict={TOKENS}", "-print_final_stats=1",
            str(own), str(CORPUS / target),
        ]  # fmt: skip
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    cases = next((line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line), "1")
    well = done.returncode == 0
    verdict = "nothing found" if well else "FOUND"
    print(f"{target:10} {cases:>9} cases in {time.monotonic() - started:5.1f} s: {verdict}", flush=True)
    if not well:
        told = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(NOISE)]
        at = next((index for index, line in enumerate(told) if "Uncaught Python exception" in line), -40)
        print("\n".join(told[at:][:40]))
    return well


def main() -> None:
    """Run the targets asked for, one after another."""
    args = arguments()
    well = [fuzz(target, args) for target in args.targets or TARGETS]
    sys.exit(0 if all(well) else 1)


if __name__ == "__main__":
    main()
