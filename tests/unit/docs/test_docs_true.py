"""What the documentation names exists: links, paths, make targets, commands with their options, metrics, reasons."""

import re
import shlex
from pathlib import Path

import click
import pytest
from docs_pages import PAGES, ROOT, code, commands, links, name, table

from deployments.cli import main
from router.protocol.problem import PROBLEMS
from router.telemetry import table as metrics_table

each_page = pytest.mark.parametrize("page", PAGES, ids=name)
NOT_HERE = {"router/core/filters/rested.py", "router/core/scorers/calm.py", "router/core/pickers/soonest.py"}
"""Files that docs/plugins.md tells its reader to write."""


def make_targets():
    return set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))


@each_page
def test_links_lead_somewhere(page):
    """Every link that is not to another site is a file here."""
    for target in links(page):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@each_page
def test_paths_in_the_text_exist(page):
    """Whatever looks like a path below one of our folders; NAME and * stand for something."""
    tops = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "build")))
    for text in code(page):
        if re.fullmatch(rf"({tops})/[\w./-]*", text) and text not in NOT_HERE:
            assert (ROOT / text).exists(), text


@each_page
def test_make_targets_exist(page):
    """In commands and in the text."""
    for command in [*commands(page), *code(page)]:
        for target in re.findall(r"^make (?!PYTHON)([a-z-]+)", command):
            assert target in make_targets(), command


@each_page
def test_pointsman_commands_can_be_given(page, monkeypatch):
    """Each command line in a shell block parses, with every argument; nothing runs."""
    monkeypatch.setenv("KEY", "pm_0")
    for command in commands(page):
        given = shlex.split(command)
        if given[0].endswith("pointsman"):
            parse(main, [re.sub(r"\$\w+", "x", word) for word in given[1:]])


def parse(command, words):
    """As click would, down to the last subcommand. Raises click.UsageError."""
    with command.make_context(command.name, words) as context:
        if isinstance(command, click.Group):
            _, sub, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            parse(sub, rest)


@each_page
def test_pointsman_subcommands_in_the_text_exist(page):
    """Such as `pointsman status`."""
    for text in code(page):
        if found := re.match(r"pointsman ([a-z]+)", text):
            assert found[1] in main.commands, text


@each_page
def test_metrics_in_the_text_exist(page):
    """Under their full name, also inside a query."""
    known = {metric.name for metric in metrics_table.METRICS}
    for used in re.findall(r"pointsman_[a-z_]+", page.read_text()):
        base = re.sub(r"_(bucket|count|sum)$", "", used)
        assert base in known or base.removesuffix("_total") in known, used


def test_every_reason_is_explained_with_its_status():
    """docs/operations.md has the reasons a client may meet, and no other."""
    told = {row[0].strip("`"): int(row[1]) for row in table(ROOT / "docs" / "operations.md", "reason")}
    assert told == {reason: problem.status for reason, problem in PROBLEMS.items()}


def test_every_lock_is_described():
    """requirements/README.md has each file of its folder."""
    told = {row[0].strip("`") for row in table(ROOT / "requirements" / "README.md", "file")}
    assert told == {path.name for path in Path(ROOT / "requirements").glob("*.txt")}


def test_nobody_is_told_of_a_page_that_the_index_lacks():
    """docs/README.md links to every page beside it."""
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= set(links(ROOT / "docs" / "README.md"))
