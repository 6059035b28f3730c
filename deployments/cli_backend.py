"""`pointsman backend`: what runs models here, and whether a class of another package keeps the contract."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deployments.backends import registry
from deployments.backends.base import BackendError
from deployments.backends.conformance import check as findings
from deployments.backends.conformance_subject import TOLERANCE, Subject
from models.repository import RepositoryError, latest, load_store
from models.spec import ModelSpec
from router.config.document import parse
from router.config.problems import ConfigError


@click.group()
def backend() -> None:
    """Backends: what runs the models of a pool.

    \b
    pointsman backend list
    pointsman backend check acme --option tile_rows=8
    """


@backend.command("list")
def list_() -> None:
    """Every type that a fleet file may name here, its package, and what is wrong with it.

    \b
    pointsman backend list
    """
    for kind, package in registry.packages():
        try:
            words = "emulated" if registry.find(kind).emulated else ""
        except BackendError as error:
            words = str(error)
        click.echo(f"{kind:<16}{package:<32}{words}".rstrip())


@backend.command()
@click.argument("kind", metavar="TYPE")
@click.option("--model", default="mlp", show_default=True, help="Name in the model store.")
@click.option("--option", "given", multiple=True, metavar="KEY=VALUE", help="As under `options:`; the value is YAML.")
@click.option("--accelerator", default="", help="Accelerator class of the pool that it would be.")
@click.option("--tolerance", default=TOLERANCE, show_default=True, help="Allowed error, relative to 1 + the value.")
@click.option(
    "--state", type=click.Path(path_type=Path), default="build", show_default=True, help="Folder that has models/."
)
def check(kind: str, model: str, given: tuple[str, ...], accelerator: str, tolerance: float, state: Path) -> None:
    """Hold a type's class against the contract of backends, by loading a model and running it.

    \b
    pointsman backend check onnx
    pointsman backend check acme --model mlp --option tile_rows=8
    """
    try:
        factory = registry.find(kind)
    except BackendError as error:
        raise click.ClickException(str(error)) from error
    options = dict(map(_option, given))
    subject = Subject(kind, factory, _model(state / "models", model), options, accelerator, tolerance)
    failed = 0
    for finding in findings(subject):
        click.echo(f"{'FAILED' if finding.problem else 'ok':<8}{finding.check}")
        if finding.problem:
            failed += 1
            click.echo(f"{'':8}  {finding.problem}")
    if failed:
        click.echo(f"{kind} does not keep the contract: {failed} checks failed")
        sys.exit(1)
    where = subject.backend.placement
    said = ", emulated" if factory.emulated else ""
    click.echo(f"{kind} keeps the contract: {model} on {where.device} by {where.provider}{said}")


def _option(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"{text}: KEY=VALUE is expected", param_hint="--option")
    try:
        return key, parse(value, f"--option {key}").data if value else ""
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="--option") from error


def _model(store: Path, name: str) -> ModelSpec:
    try:
        versions = load_store(store).get(name)
    except RepositoryError as error:
        raise click.ClickException(str(error)) from error
    if not versions:
        raise click.ClickException(f"model {name!r} is not in {store}")
    return versions[latest(versions)]
