"""The `pointsman` command. Parses arguments and prints; the work is done elsewhere."""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path

import click
import msgspec

from deployments import serving, show_accelerators
from deployments.cli_backend import backend
from deployments.devices import DeviceReport, survey
from deployments.machine import detected, processor
from deployments.words import explained, table
from router.config.load import accelerators as known_accelerators
from router.config.problems import ConfigError, unknown
from router.policy.credentials import KEY_BYTES, digest, new_key

DEFAULT_CONFIG = "examples/fleet-local.yaml"
config_option = click.option(
    "--config", "-c", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True, help="Fleet file."
)
state_option = click.option(
    "--state", type=click.Path(path_type=Path), default="build", show_default=True,
    help="Folder for models, keys and what a running fleet leaves.",
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pointsman")
def main() -> None:
    """Routes inference requests over a mixed fleet of accelerators.

    \b
    pointsman serve                             start the example fleet on this machine
    pointsman validate -c fleet.yaml            check a fleet file, start nothing
    pointsman explain minilm --key pm_...       why would a request go where?
    pointsman accelerators nvidia-h20           what is known of a class, and from where
    pointsman key new                           make an API key and its digest
    """


@main.command()
@config_option
@state_option
@click.option("--resource", multiple=True, metavar="NAME=AMOUNT", help="A Ray resource of this machine, if undetected.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="A label of this machine, as pools may ask for.")
def serve(config: Path, state: Path, resource: tuple[str, ...], label: tuple[str, ...]) -> None:
    """Start a fleet on this machine and keep it until Ctrl-C.

    \b
    pointsman serve
    pointsman serve --config my-fleet.yaml
    pointsman serve --resource ACME_NPU=4 --label pointsman.io/accelerator=nvidia-a100-80g
    """
    try:
        resources = {name: float(amount) for name, amount in _pairs(resource).items()}
    except ValueError as error:
        raise click.UsageError(f"--resource: {error}") from error
    with _config_errors():
        sys.exit(serving.serve(config, state, resources, _pairs(label)))


@main.command()
@config_option
@state_option
def validate(config: Path, state: Path) -> None:
    """Check a fleet file: every fault with its line and path, nothing started.

    \b
    pointsman validate --config my-fleet.yaml
    """
    with _config_errors():
        settings = serving.checked(config, state)
    click.echo(
        f"{config}: {len(settings.pools)} pools, {len(settings.tenants)} tenants, {len(settings.rules)} rules: "
        f"config {settings.digest}"
    )


@main.group()
def key() -> None:
    """Keys of tenants and operators."""


@key.command("new")
def key_new() -> None:
    """Make a key of 128 random bits. The key is for the client or operator, the digest for the fleet file.

    \b
    pointsman key new
    """
    made = new_key(secrets.token_bytes(KEY_BYTES))
    click.echo(f"key:    {made}")
    click.echo(f"digest: sha256:{digest(made)}")


@main.command()
@click.argument("model")
@click.option("--version", "model_version", default="", help="Model version; any if left out.")
@click.option("--rows", default=1, show_default=True, help="Rows of the request.")
@click.option("--latency-target", default="", help="Such as 20ms.")
@click.option("--timeout", default="", help="Such as 1s.")
@click.option("--priority", default="", help="interactive, standard or batch; the tenant's own if left out.")
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Of the data listener.")
@click.option("--key", "api_key", envvar="POINTSMAN_KEY", default="", help="A tenant's key [env POINTSMAN_KEY].")
@click.option("--admin", is_flag=True, help="Ask as operator: every pool, and the rule that keeps it out.")
@click.option("--tenant", default="", help="With --admin: whose request it would be.")
@click.option("--admin-url", default="http://127.0.0.1:8003", show_default=True, help="Of the admin listener.")
@click.option(
    "--admin-key", envvar="POINTSMAN_ADMIN_KEY", default="",
    help="[env POINTSMAN_ADMIN_KEY]; if left out, the one that `serve` made under --state.",
)  # fmt: skip
@state_option
@click.option("--json", "as_json", is_flag=True, help="The whole answer as JSON.")
def explain(
    model: str, model_version: str, rows: int, latency_target: str, timeout: str, priority: str, url: str,
    api_key: str, admin: bool, tenant: str, admin_url: str, admin_key: str, state: Path, as_json: bool,
) -> None:  # fmt: skip
    """Ask a running router where a request would go and why. Dispatches nothing.

    \b
    pointsman explain minilm --key pm_...
    pointsman explain minilm --latency-target 5ms --json
    pointsman explain minilm --admin --tenant demo
    """
    if bool(tenant) != admin:
        raise click.UsageError("--admin and --tenant go together")
    body: dict[str, object] = {"model": model, "version": model_version, "rows": rows}
    if admin:
        body, url, api_key = body | {"tenant": tenant}, admin_url, admin_key or serving.operator_key(state)
    given = {"latency-target": latency_target, "timeout": timeout, "priority": priority}
    headers = {f"x-pointsman-{name}": value for name, value in given.items() if value}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    status, answer = serving.post_json(f"{url}/v1/explain", body, headers)
    if status != 200:
        raise click.ClickException(f"{status}: {answer.get('error', answer)}")
    click.echo(json.dumps(answer, indent=2) if as_json else explained(answer))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def devices(as_json: bool) -> None:
    """What this machine can run: each provider proved by a small graph, in each environment, or what it lacks.

    \b
    pointsman devices
    pointsman devices --json
    """
    cpu, found, reports = processor(), detected(), survey()
    if as_json:
        everything = {"cpu": cpu, "ray": found, "providers": reports}
        click.echo(json.dumps(msgspec.to_builtins(everything), indent=2))
        return
    click.echo(
        f"CPU   {cpu.model or 'unknown'}, {cpu.cores} cores, {' '.join(cpu.flags) or 'no vector extensions known'}"
    )
    ray = ", ".join(f"{each.resource} {each.count} {each.type}".strip() for each in found)
    click.echo(f"Ray   {ray or 'detects no accelerator here'}\n")
    head = ("provider", "environment", "runs", "ONNX Runtime", "where, or what is missing and what to do")
    click.echo(table(head, [_device_row(report) for report in reports]))


def _device_row(report: DeviceReport) -> tuple[str, ...]:
    placed = report.placement
    where = f"{placed.nodes} nodes on {placed.provider}, {placed.device}" if placed else report.missing
    return report.provider, report.environment, "yes" if placed else "no", report.runtime or "-", where


main.add_command(backend)


@main.command()
@click.argument("name", required=False)
@click.option("--config", "-c", type=click.Path(path_type=Path), help="Fleet file, for what it adds and changes.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON.")
def accelerators(name: str | None, config: Path | None, as_json: bool) -> None:
    """The accelerator classes of the catalogue; of one, every fact with its source, date and confidence.

    \b
    pointsman accelerators
    pointsman accelerators nvidia-h20
    pointsman accelerators --config my-fleet.yaml --json
    """
    with _config_errors():
        classes = {described.facts.name: described for described in known_accelerators(config)}
    if name is not None and name not in classes:
        raise click.UsageError(unknown("accelerator class", name, classes))
    now_s = time.time()
    chosen = list(classes.values()) if name is None else [classes[name]]
    if as_json:
        click.echo(json.dumps([show_accelerators.document(described, now_s) for described in chosen], indent=2))
    elif name is None:
        click.echo(show_accelerators.overview(chosen, now_s))
    else:
        click.echo(show_accelerators.detail(chosen[0], now_s))


@main.command()
@click.argument("name")
@config_option
@state_option
def restart(name: str, config: Path, state: Path) -> None:
    """Restart a pool's (or the `router`'s) replicas one after the other, under a running `pointsman serve`.

    \b
    pointsman restart cpu
    pointsman restart router
    """
    with _config_errors():
        serving.restart(name, config, state)


@main.command()
@state_option
def status(state: Path) -> None:
    """The running fleet as its router sees it.

    \b
    pointsman status
    """
    click.echo(serving.status(state))


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE arguments as a mapping."""
    if wrong := [pair for pair in given if "=" not in pair]:
        raise click.UsageError(f"{wrong[0]}: NAME=VALUE is needed")
    return dict(pair.split("=", 1) for pair in given)


class _config_errors:
    """Prints configuration errors plainly and exits with 2."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, ConfigError):
            click.echo(str(error), err=True)
            sys.exit(2)
        return False
