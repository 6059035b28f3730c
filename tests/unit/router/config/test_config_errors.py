"""Each fault of a fleet file, word for word."""

from pathlib import Path

import pytest

from router.config.load import load
from router.config.problems import ConfigError

GOLDEN = Path(__file__).parents[3] / "golden" / "config_errors.txt"
POOL = "{name: p, accelerator: x86-cpu, region: r, models: [m]}"


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """The words with which a fleet file is refused; its name is fleet.yaml."""
    monkeypatch.chdir(tmp_path)

    def words(text, known_models=frozenset({"m", "minilm"})):
        Path("fleet.yaml").write_text(text)
        with pytest.raises(ConfigError) as error:
            load(Path("fleet.yaml"), known_models)
        return str(error.value)

    return words


def blocks():
    """(fleet file, words) of the golden file."""
    for block in GOLDEN.read_text().split("===\n")[1:]:
        text, _, words = block.partition("---\n")
        yield pytest.param(text, words.rstrip("\n"), id=words.partition("\n")[0][:60])


@pytest.mark.parametrize(("text", "words"), blocks())
def test_a_fault_is_refused_word_for_word(refused, text, words):
    """File, line, path, what is wrong, and what was probably meant."""
    assert refused(text) == words


def test_a_huge_expression_is_refused_before_it_is_compiled(refused):
    """CEL never sees it."""
    rule = "policies: [{name: n, when: 'true', allow: '" + "!" * 5000 + "'}]"
    assert refused(f"pools: [{POOL}]\n{rule}\n") == (
        "fleet.yaml:2: policies[0].allow: must be at most 4096 characters long"
    )


def test_every_fault_of_both_files_is_told_at_once_and_none_twice(refused, tmp_path):
    """Schema, names, rules and tenants together; a faulty entry causes no second complaint."""
    (tmp_path / "tenants.yaml").write_text(
        f"tenants:\n- {{id: t, priority: batch}}\n- {{id: v, keys: ['sha256:{'0' * 64}']}}\n- {{id: w, key: x}}\n"
    )
    assert refused(
        "accelerators:\n  asic: {source: s}\n"
        "pools:\n  - {name: one, accelerator: asic, region: r, models: [m], cost: 0}\n"
        "  - {name: two, accelerator: asic, region: r, models: [minilmm]}\n"
        f"tenants:\n  - {{id: t, keys: ['sha256:{'0' * 64}']}}\ntenants_file: tenants.yaml\n"
        "policies:\n  - name: n\n    when: pool.naem == 'x'\n    allow: 'true'\n"
        "models:\n  minilm: {deadline: 5}\n"
    ) == (
        "fleet.yaml:2: accelerators.asic.as_of: is required\n"
        "fleet.yaml:4: pools[0].cost: must be more than 0\n"
        'fleet.yaml:5: pools[1].models[0]: unknown model "minilmm"; did you mean "minilm"?\n'
        "fleet.yaml:11: policies[0].when: 1:5: undeclared reference to 'pool.naem'; did you mean pool.name?\n"
        "    pool.naem == 'x'\n        ^\n"
        "fleet.yaml:14: models.minilm.deadline: must be a duration with its unit, such as 50ms, 2s or 1m\n"
        'tenants.yaml:1: tenants: tenants "t" and "v" have the same key sha256:00000000…\n'
        'tenants.yaml:2: tenants[0]: tenant "t" is in fleet.yaml: only its keys can be added here\n'
        'tenants.yaml:4: tenants[2].key: unknown key; did you mean "keys"?'
    )


def test_no_error_repeats_a_key_given_in_clear(refused):
    """Someone will paste the key itself."""
    words = refused("tenants: [{id: t, keys: [pm_5ecre7]}, {id: u, keys: pm_5ecre7}]\npools: [" + POOL + "]\n")
    assert words.count("fleet.yaml:1: ") == 2
    assert "5ecre7" not in words


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    """With the system's words."""
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load(tmp_path / "latin.yaml")
