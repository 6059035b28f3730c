"""Requests made up from /openapi.json: nothing that fits it, or nearly, is answered outside of what it says."""

from __future__ import annotations

import subprocess

import pytest
from client_scripts import HERE, PYTHON

pytestmark = pytest.mark.cluster

EXAMPLES = 40
"""Of each operation and phase."""


def test_answers_are_what_the_document_says(fleet, server):
    """Status, content type, headers and body of every answer; made-up methods, missing headers, no key at all."""
    done = subprocess.run(
        [
            PYTHON.with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml", "run",
            f"{fleet.http_url}/openapi.json", "--header", f"Authorization: Bearer {server['key']}", "--checks", "all",
            "--exclude-checks", "positive_data_acceptance",
            "--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", "1",
            "--generation-database", "none", "--no-color", "--request-timeout", "20",
        ],
        capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL, cwd=fleet.state,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_the_router_came_out_of_it_well(fleet):
    """Nothing under way, nothing logged as a fault of its own."""
    fleet.flushed()
    assert fleet.metric("pointsman_inflight") == 0
    assert fleet.metric("pointsman_requests_total", outcome="internal") == 0
    assert "Traceback" not in fleet.log()
