"""What a request says that it keeps itself to, from its headers."""

import pytest

from router.api.heads import RequestIds, read_head
from router.core.errors import RequestError
from router.core.filters.narrowing import Narrowing
from router.service.head import narrowing


def asked(**headers):
    """Names with _ for -."""
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return narrowing(read_head(("m", ""), sent, RequestIds("t")))


@pytest.mark.parametrize(
    ("headers", "only"),
    [
        ({}, None),
        ({"x_pointsman_only_accelerator": "a, b"}, Narrowing(("a", "b"))),
        ({"x_pointsman_only_region": "r"}, Narrowing((), ("r",))),
        ({"x_pointsman_only_emulated": "false"}, Narrowing(emulated=False)),
        ({"x_pointsman_only_accelerator": "a", "x_pointsman_only_emulated": "true"}, Narrowing(("a",), (), True)),
    ],
)
def test_each_is_read_and_none_is_no_bound(headers, only):
    """Names between commas."""
    assert asked(**headers) == only


@pytest.mark.parametrize("name", ["accelerator", "region", "emulated"])
@pytest.mark.parametrize("value", ["", " ", ","])
def test_one_that_says_nothing_is_refused_and_not_taken_for_no_bound(name, value):
    """A proxy that joins an empty list must not open the whole fleet."""
    with pytest.raises(RequestError, match=f"x-pointsman-only-{name}"):
        asked(**{f"x_pointsman_only_{name}": value})
