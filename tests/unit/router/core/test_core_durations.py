"""Durations."""

import pytest

from router.core.durations import parse_duration_s


@pytest.mark.parametrize(
    ("text", "seconds"), [("50ms", 0.05), ("2s", 2.0), ("1m", 60.0), ("1h", 3600.0), ("250us", 250e-6), ("1.5s", 1.5)]
)
def test_a_number_and_a_unit_is_seconds(text, seconds):
    """Every unit reads as what it says."""
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "50", "ms", "-1s", "+1s", "1 s", "1e3s", "١s", "1s\n", "nan", "infs", "1.s", "5 m s"]
)
def test_what_is_not_a_duration_is_refused_in_words(text):
    """No unit is guessed, no sign, no other alphabet."""
    with pytest.raises(ValueError, match="is not a duration: write a number and a unit, such as 50ms, 2s or 1m"):
        parse_duration_s(text)


@pytest.mark.parametrize("text", ["0s", "0.000000ms", "61m", "3600.1s", "999999999999h"])
def test_out_of_range_is_refused(text):
    """More than 0 and at most an hour."""
    with pytest.raises(ValueError, match="is out of range"):
        parse_duration_s(text)


def test_an_error_repeats_only_the_beginning_of_a_long_text():
    """A header of a megabyte does not come back in the answer."""
    with pytest.raises(ValueError, match="duration") as error:
        parse_duration_s("x" * 1_000_000)
    assert len(str(error.value)) < 200
