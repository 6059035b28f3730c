"""Where streams may listen."""

import pytest

from deployments import loopback


@pytest.fixture
def node(monkeypatch):
    """Sets what Ray takes for this node's address."""
    return lambda address: monkeypatch.setattr(loopback, "get_node_ip_address", lambda: address)


def test_streams_leave_the_node_only_where_that_is_said(node):
    """A replica that no router could reach, or that strangers could, does not start."""
    node("10.0.0.7")
    assert loopback.stream_host(True) == "10.0.0.7"
    with pytest.raises(loopback.LoopbackOnly, match=r"10\.0\.0\.7.*not encrypted.*set stream\.beyond_loopback: true"):
        loopback.stream_host(False)


@pytest.mark.parametrize("beyond", [False, True])
def test_on_one_machine_they_are_on_loopback_whatever_is_said(node, beyond):
    """Ray's address there is loopback."""
    node("127.0.0.1")
    assert loopback.stream_host(beyond) == "127.0.0.1"
