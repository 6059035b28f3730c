"""docs/accelerators.md: its worked example loads, is judged as the page says, and is shown as the page shows it."""

import pytest
from docs_pages import ROOT, blocks, table

from deployments.show_accelerators import detail
from router.config.build import policy_table
from router.config.load import accelerators, load
from router.config.schema_accelerator import Accelerator

PAGE = ROOT / "docs" / "accelerators.md"
MARCH_2026_S = 1772323200.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """The example as a file."""
    path = tmp_path_factory.mktemp("accelerators") / "fleet.yaml"
    (example,) = blocks(PAGE, "yaml")
    path.write_text(example)
    return path


def test_the_example_is_shown_as_the_page_shows_it(fleet):
    """Every line."""
    (asic,) = (described for described in accelerators(fleet) if described.facts.name == "acme-x1")
    shown = detail(asic, MARCH_2026_S)
    (expected,) = blocks(PAGE, "")
    assert expected in shown + "\n"
    for words in ("Acme X1 data sheet, revision 4", "our measurement", "2026-02-20", "not-required since 2026-03-01"):
        assert words in shown


def test_the_rule_of_the_example_turns_on_the_day_of_the_licence_state(fleet):
    """Unknown before it."""
    rows = policy_table(load(fleet), {"minilm": ["1"]})
    found = []
    for now_s in (MARCH_2026_S - 1, MARCH_2026_S):
        rows.fill(now_s)
        found.append(rows.lookup("search", "minilm", "", 0).verdicts["acme"])
    assert [verdict.allowed for verdict in found] == [False, True]
    assert found[0].reason.startswith("needs a licence that we do not hold")


def test_the_facts_and_states_of_the_page_are_those_there_are():
    """No more, no fewer."""
    about = {"source", "as_of", "sources", "notes", "export"}
    told = {name for row in table(PAGE, "fact") for name in row[0].replace("`", "").split(", ")}
    assert told == Accelerator.model_fields.keys() - about
    states = Accelerator.model_json_schema()["$defs"]["Licence"]["properties"]["state"]["enum"]
    assert [row[0].strip("`") for row in table(PAGE, "state")] == states
