"""YAML as the configuration takes it."""

import pytest

from router.config.document import parse
from router.config.problems import ConfigError


def refused(text):
    with pytest.raises(ConfigError) as error:
        parse(text, "f.yaml")
    return str(error.value)


def test_every_path_knows_its_line():
    """A list item by its first line, a key by its own."""
    document = parse("a: 1\nb:\n  - {x: 1,\n     y: 2}\n  - z\n", "f.yaml")
    assert document.lines == {"": 1, "a": 1, "b": 2, "b[0]": 3, "b[0].x": 3, "b[0].y": 4, "b[1]": 5}
    assert str(document.problem("b[0].y.deeper[3].still", "m")) == "f.yaml:4: b[0].y.deeper[3].still: m"
    assert str(document.problem("c", "m")) == "f.yaml:1: c: m"


def test_words_stay_words():
    """No Norway problem, no dates, no base 60, no octal: YAML 1.2's core and nothing else."""
    text = "[no, on, y, 2023-11-17, 1:30, 0o7, 1_000, .inf, .nan, true, null, ~, -3, 010, 1.5, 1e3, '1']"
    assert parse(text, "f").data == [
        *("no", "on", "y", "2023-11-17", "1:30", "0o7", "1_000", ".inf", ".nan"),
        *(True, None, None, -3, 10, 1.5, 1000.0, "1"),
    ]
    assert parse("a:\nb: ''\n", "f").data == {"a": None, "b": ""}


def test_an_empty_file_says_nothing():
    """Which its schema then judges."""
    assert parse("# only words\n", "f").data == {}


def test_a_key_that_stands_twice_is_refused():
    """PyYAML alone would take the last; every one is told."""
    assert refused("a: 1\nb: {c: 1, c: 2}\na: 2\n") == (
        "f.yaml:2: b.c: is given twice, first at line 2\nf.yaml:3: a: is given twice, first at line 1"
    )


def test_what_is_no_plain_data_is_refused():
    """Nothing is constructed from a tag."""
    assert refused(
        "a: !!python/object/apply:os.system ['true']\n"
    ) == "f.yaml:1: a: has a tag that is not allowed: " + ("tag:yaml.org,2002:python/object/apply:os.system")
    assert refused("? [a]\n: 1\n") == "f.yaml:1: has a key that is not text"
    assert refused("a: !!int [1]\n") == "f.yaml:1: a: has a tag that is not allowed: tag:yaml.org,2002:int"
    assert refused('a: "x\\0"\n') == "f.yaml:1: a: holds a character that is not text"
    assert refused('a: "\\ud800"\n') == "f.yaml:1: a: holds a character that is not text"
    assert refused('"\\ud800": 1\n') == "f.yaml:1: has a key that is not text"
    assert refused("a: !!int x\n") == "f.yaml:1: a: does not match its tag"
    assert refused("a: !!set {x: }\n").startswith("f.yaml:1: a: has a tag that is not allowed")


def test_broken_yaml_says_where():
    """With the parser's words."""
    assert refused("a: 1\nb: [1 2}\n").startswith("f.yaml:2: is not YAML: while parsing a flow sequence")
    assert refused("a: \x07\n").startswith("f.yaml:1: is not YAML")
    assert refused("a: 1\n---\nb: 2\n").startswith("f.yaml:2: is not YAML")


def test_an_alias_repeats_but_cannot_blow_up_or_contain_itself():
    """A billion laughs are cut short."""
    assert parse("a: &x [1]\nb: *x\n", "f").data == {"a": [1], "b": [1]}
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    assert "is nested too deep or repeats itself too often" in refused(bomb)
    assert "is nested too deep" in refused("a: &a [*a]\n")
    assert "is nested too deep" in refused("[" * 100_000)


def test_a_file_over_a_mebibyte_is_refused():
    """Before it is parsed."""
    assert refused("# " + "x" * 1024 * 1024) == "f.yaml:1: is larger than 1048576 bytes"
