"""Writes the assumed latency profiles: `python -m models.profile_build` turns profile_sources.yaml into profiles/.

Owns how the table of sources becomes the inputs of the rule (scaling.py), one file per accelerator class. Looks nothing
up and measures nothing, so the same table gives the same files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import yaml

from models.profile_store import FOLDER
from models.repository import read_yaml
from models.scaling import RULE, Published, Scaling, Step, Tail

SOURCES = Path(__file__).with_name("profile_sources.yaml")

NOTE = """\
ASSUMPTION, NOT A MEASUREMENT: nobody ran these models on this hardware. Use it to emulate a fleet and to start a
prediction, never to compare makers. Replace it with a measured profile as soon as there is one.
Written by `python -m models.profile_build`; `scaling` holds the rule and its inputs for each model. It starts from
what MLPerf Inference v2.1 and v4.1 and Ascend's ModelZoo publish of other models, mostly of other parts.
Peak figures: {source}.
"""


class _Plain(yaml.SafeDumper):
    """Repeats a value where PyYAML would write an alias."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def documents() -> dict[str, str]:
    """Text of each profile file, by accelerator class."""
    table = read_yaml(SOURCES)
    return {name: _document(table, name) for name, entry in table["classes"].items() if entry.get("profile", True)}


def scaling_of(table: dict[str, Any], accelerator: str, model: str) -> Scaling:
    """The rule's inputs for one model on one class, from the table of sources."""
    facts = table["models"][model]
    kind, maker = facts["kind"], table["makers"][accelerator.partition("-")[0]]
    by = table["scaled"][kind]["by"]
    reference = table["references"][table["scaled"][kind]["from"][accelerator]]
    peak, reference_peak = (table["classes"][name][by] for name in (accelerator, reference["accelerator"]))
    return Scaling(
        rule=RULE,
        unit=facts["unit"],
        steps=facts["steps"],
        work_per_row=facts["work_per_row"],
        step=msgspec.convert(maker["step"][kind], Step),
        reference=msgspec.convert(reference | {"as_of": table["as_of"]}, Published),
        by=by,
        peak=peak,
        reference_peak=reference_peak,
        ratio=round(peak / reference_peak, 6),
        tail=msgspec.convert(maker["tail"], Tail),
    )


def _document(table: dict[str, Any], accelerator: str) -> str:
    scaling = {model: scaling_of(table, accelerator, model) for model in table["models"]}
    head = {"accelerator": accelerator, "basis": "assumed"}
    note = "".join(f"  {line}\n" for line in NOTE.format(source=table["classes"][accelerator]["source"]).splitlines())
    lines = ["models:"]
    for model, rule in scaling.items():
        lines.append(f"  {model}: # {table['models'][model]['why']}")
        for rows in table["rows"]:
            p50_s, p90_s, p99_s = (f"{seconds:.7f}" for seconds in rule.quantiles_s(rows))
            lines.append(f"    - {{rows: {rows}, p50_s: {p50_s}, p90_s: {p90_s}, p99_s: {p99_s}}}")
    inputs = yaml.dump({"scaling": msgspec.to_builtins(scaling)}, Dumper=_Plain, sort_keys=False, width=120)
    return yaml.safe_dump(head, sort_keys=False) + "note: |\n" + note + "\n".join(lines) + "\n" + inputs


def main() -> None:
    """Write every file."""
    for accelerator, text in documents().items():
        path = FOLDER / f"{accelerator}.yaml"
        path.write_text(text)
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
