"""tritonclient and kserve, in their own environment, against a real fleet. What they check is in scripts/."""

from __future__ import annotations

import pytest
from client_scripts import checks_of

pytestmark = pytest.mark.cluster

CLIENTS = [("triton.py", kind) for kind in ("http", "http.aio", "grpc", "grpc.aio")]
CLIENTS += [("kserve_client.py", kind) for kind in ("rest", "grpc")]
CHECKS = [
    pytest.param(script, kind, check, id=f"{script.partition('.')[0]}-{kind}-{check}")
    for script, kind in CLIENTS
    for check in checks_of(script)
]


@pytest.mark.parametrize(("script", "kind", "check"), CHECKS)
def test_the_client_sees_what_it_expects(told, script, kind, check):
    """One check of one client."""
    if fault := told(script, kind)[check]:
        pytest.fail(fault, pytrace=False)
