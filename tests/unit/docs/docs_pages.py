"""The pages of the documentation, taken apart: code blocks, code in the text, links, tables. Judges nothing."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("requirements/*.md"))
    if page.name != "CHANGELOG.md"
)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)#]+)\)")


def name(page: Path) -> str:
    """As pytest shows it."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """Fenced code blocks of one language."""
    return [code for found, code in _BLOCK.findall(page.read_text()) if found == language]


def commands(page: Path) -> list[str]:
    """Commands of the shell blocks and of indented code, continued lines joined, without comments."""
    indented = re.findall(r"^    (\S.*)$", _BLOCK.sub("", page.read_text()), re.MULTILINE)
    text = "\n".join([*blocks(page, "sh"), *indented]).replace("\\\n", " ")
    return [line for raw in text.splitlines() if (line := re.sub(r"\s#.*$", "", raw).strip())]


def code(page: Path) -> list[str]:
    """What stands between single backticks in the text, blocks left out."""
    return _CODE.findall(_BLOCK.sub("", page.read_text()))


def links(page: Path) -> list[str]:
    """Targets of links, without anchors."""
    return _LINK.findall(page.read_text())


def table(page: Path, first_column: str) -> list[list[str]]:
    """Rows of the table whose first column has that head; cells stripped."""
    text = page.read_text()
    start = text.index(f"| {first_column} |")
    rows = []
    for line in text[start:].splitlines()[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows
