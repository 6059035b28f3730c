"""Measurements to a Markdown report: tables, ratios, targets. Never measures."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import msgspec

from benchmarks.http.load import Measured

HEAD = (
    "| system | answers/s (each round) | p50 ms | p90 ms | p99 ms | max ms | errors | server CPU µs/answer |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


class SystemResult(msgspec.Struct):
    """All runs of one system, round by round."""

    name: str
    family: str
    note: str
    largest_error: float = 0.0
    """Largest absolute difference of its answers from the session's, over all checks."""
    ready_s: list[float] = []
    """From process start to the first right answer, each round."""
    rss_bytes: int = 0
    """Resident memory of all its processes after load; shared pages count once in each."""
    runs: list[Measured] = []
    failures: list[str] = []
    """Rounds in which it did not start or answered wrongly, in words."""

    def at(self, connections: int) -> list[Measured]:
        """Its runs at one connection count."""
        return [run for run in self.runs if run.connections == connections]

    def median(self, connections: int, value: Callable[[Measured], float]) -> float:
        """Median over rounds of one value."""
        return statistics.median(value(run) for run in self.at(connections))

    def rate(self, connections: int) -> float:
        """Median answers per second."""
        return self.median(connections, lambda run: run.answered_per_s)


class Report(msgspec.Struct):
    """One whole bench."""

    facts: dict[str, str]
    session_p50_s: float
    session_p99_s: float
    connections: list[int]
    systems: list[SystemResult]


class Target(msgspec.Struct, frozen=True):
    """`fleet` must answer at least `ratio` times as many requests as the fastest of `family` at 32 connections."""

    fleet: str
    family: str
    ratio: float


TARGETS = (
    Target("pointsman-preferred", "ray-best", 2.8),
    Target("pointsman-preferred", "ray-default", 30.0),
    Target("pointsman-preferred", "mosec", 1.2),
    Target("pointsman-equal", "ray-best", 2.0),
    Target("pointsman-equal", "mosec", 1.0),
)
TARGET_CONNECTIONS = 32
TARGET_ABOVE_SESSION_S = 0.6e-3


def ms(seconds: float) -> str:
    """Seconds as milliseconds, three figures."""
    return f"{seconds * 1e3:.3g}"


def row(system: SystemResult, connections: int) -> str:
    """One line of a table."""
    runs = system.at(connections)
    rounds = ", ".join(f"{run.answered_per_s:,.0f}" for run in runs)
    errors = sum(run.status_errors + run.socket_errors for run in runs)
    cells = [
        f"{system.name} ({system.note})",
        f"**{system.rate(connections):,.0f}** ({rounds})",
        ms(system.median(connections, lambda run: run.p50_s)),
        ms(system.median(connections, lambda run: run.p90_s)),
        ms(system.median(connections, lambda run: run.p99_s)),
        ms(max(run.max_s for run in runs)),
        str(errors),
        f"{system.median(connections, lambda run: run.server_cpu_per_request_s) * 1e6:,.0f}",
    ]
    return f"| {' | '.join(cells)} |\n"


def fastest(report: Report, family: str) -> SystemResult | None:
    """The variant of `family` with most answers at the target's connections, None where none ran."""
    ran = [system for system in report.systems if system.family == family and system.at(TARGET_CONNECTIONS)]
    return max(ran, key=lambda system: system.rate(TARGET_CONNECTIONS), default=None)


def ratios(report: Report) -> str:
    """Each target against what was measured; a line only where both sides ran."""
    by_name = {system.name: system for system in report.systems}
    lines = ["| target at 32 connections | wanted | measured | reached |\n", "|---|---|---|---|\n"]
    for target in TARGETS:
        ours, theirs = by_name.get(target.fleet), fastest(report, target.family)
        if ours is None or theirs is None:
            continue
        ratio = ours.rate(TARGET_CONNECTIONS) / theirs.rate(TARGET_CONNECTIONS)
        said = "yes" if ratio >= target.ratio else "**no**"
        lines.append(f"| {target.fleet} / {theirs.name} | {target.ratio:g}× | {ratio:.2f}× | {said} |\n")
    ours = by_name.get("pointsman-preferred")
    if ours is not None and ours.at(1):
        above_s = ours.median(1, lambda run: run.p50_s) - report.session_p50_s
        said = "yes" if above_s <= TARGET_ABOVE_SESSION_S else "**no**"
        wanted = f"≤ {ms(TARGET_ABOVE_SESSION_S)} ms"
        lines.append(f"| one client, p50 above the session in-process | {wanted} | {ms(above_s)} ms | {said} |\n")
    return "".join(lines) if len(lines) > 2 else "No Pointsman fleet in this run, so no ratios.\n"


def markdown(report: Report) -> str:
    """The whole report."""
    parts = ["# One model, one load, several servers\n\n"]
    parts += [f"- {name}: {value}\n" for name, value in report.facts.items()]
    parts.append(
        f"- the session in-process, one row, no parsing: p50 {ms(report.session_p50_s)} ms, "
        f"p99 {ms(report.session_p99_s)} ms\n"
    )
    for connections in report.connections:
        parts.append(f"\n## {connections} connection{'s' if connections > 1 else ''}\n\n{HEAD}")
        parts += [row(system, connections) for system in report.systems if system.at(connections)]
    parts.append(f"\n## Ratios\n\n{ratios(report)}")
    parts.append("\n## Start, memory, right answers\n\n")
    parts.append("| system | ready after s (each round) | resident MiB | largest error |\n|---|---|---|---|\n")
    for system in report.systems:
        ready = ", ".join(f"{seconds:.1f}" for seconds in system.ready_s)
        error = "not checked" if system.family == "floor" else f"{system.largest_error:.1e}"
        parts.append(f"| {system.name} | {ready} | {system.rss_bytes / 2**20:,.0f} | {error} |\n")
    failures = [f"- {system.name}: {words}\n" for system in report.systems for words in system.failures]
    if failures:
        parts += ["\n## Failed\n\n", *failures]
    return "".join(parts)
