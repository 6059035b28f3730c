"""docs/metrics.md, written from the table: `python -m router.telemetry.docs > docs/metrics.md`. Text only."""

from __future__ import annotations

import sys

from router.telemetry.table import LABELS, METRICS, Metric

GROUPS = {
    "requests": (
        "Requests",
        "Every request that reached a router ends exactly once and is counted once in `pointsman_requests_total`.",
    ),
    "rejections": (
        "Rejections and retries",
        "What was refused, and why. A request that failed after it was sent to a replica is no rejection: see its "
        "outcome in `pointsman_pool_requests_total`.",
    ),
    "goodput": (
        "Deadlines and targets",
        "Goodput is the rate of `met`. Read it with the rejections: latency of survivors alone says little.",
    ),
    "time": (
        "Where time goes",
        'Stages are observed where they were reached. Requests without a pool are under `pool=""`.',
    ),
    "batches": ("Batches", "Rows are the unit a batch is counted in: one request may bring several."),
    "prediction": (
        "Predicted against actual",
        "Bias: actual seconds over predicted seconds, 1 is none. Spread: quantiles of the ratio, near 1 is good. The "
        "ratio is free of scale, so that fast and slow models can be read together; the sums weigh slow requests more.",
    ),
    "fleet": ("Pools now", "Gauges come from live router processes alone, and vanish with them."),
    "router": ("Routers", "The routers of one node, and how fresh what they say is."),
}
"""Title and introduction by group, in the order of the page."""

EXAMPLES = {
    "requests": (
        "sum by (tenant) (rate(pointsman_requests_total[5m]))",
        # answered is there from the start; another outcome only once it occurred, and nothing over something is nothing
        '1 - sum by (pool) (rate(pointsman_pool_requests_total{outcome="answered"}[5m]))'
        " / sum by (pool) (rate(pointsman_pool_requests_total[5m]))",
    ),
    "rejections": ("sum by (reason) (rate(pointsman_rejections_total[5m]))",),
    "goodput": (
        'sum by (model) (rate(pointsman_deadline_total{result="met"}[5m]))'
        " / on (model) sum by (model) (rate(pointsman_requests_total[5m]))",
    ),
    "time": (
        "histogram_quantile(0.99, sum by (le, pool, model)"
        ' (rate(pointsman_stage_seconds_bucket{stage="total",pool!=""}[5m])))',
    ),
    "batches": (
        "sum by (pool) (rate(pointsman_batch_rows_sum[5m])) / sum by (pool) (rate(pointsman_batch_rows_count[5m]))",
    ),
    "prediction": (
        "sum by (pool) (rate(pointsman_actual_seconds_total[5m]))"
        " / sum by (pool) (rate(pointsman_predicted_seconds_total[5m]))",
        "histogram_quantile(0.9, sum by (le, pool) (rate(pointsman_prediction_ratio_bucket[5m])))",
    ),
    "fleet": (
        "sum by (accelerator) (pointsman_inflight * on (instance, pool) group_left (accelerator) pointsman_pool_info)",
    ),
    "router": ("pointsman_telemetry_age_seconds > 5 or pointsman_router_processes == 0",),
}
"""PromQL by group."""

_HEAD = """\
# Metrics

Written by `python -m router.telemetry.docs` from `router/telemetry/table.py`: change the table, not this page.

Each node serves `GET /metrics` on port 8002, as Prometheus text or OpenMetrics, from a process of its own: totals over
all router processes of the node, those that died included. A router killed outright loses what it counted since its
last flush (0.25 s). Label values come from the configuration; anything else is `other`. A metric whose labels or
buckets change with a new version of Pointsman starts from zero; the others keep their totals.
"""


def page() -> str:
    """The whole page, in Markdown."""
    parts = [_HEAD]
    for group, (title, text) in GROUPS.items():
        parts.append(f"## {title}\n\n{text}\n")
        parts += [_entry(metric) for metric in METRICS if metric.group == group]
        parts.append("\n".join(("```promql", *EXAMPLES[group], "```")) + "\n")
    labels = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in LABELS.items())
    parts.append(f"## Labels\n\n| label | values |\n|---|---|\n{labels}\n")
    return "\n".join(parts)


def _entry(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
    lines = [f"### {metric.name}\n", f"{metric.help}\n", f"{metric.kind.value} · unit {metric.unit} · labels {labels}"]
    if metric.buckets:
        lines[-1] += f" · buckets {', '.join(f'{bound:g}' for bound in metric.buckets)}"
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
