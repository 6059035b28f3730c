"""What is said of an application's status."""

import pytest

from deployments.words import state_words

TRACEBACK = """Failed to start replica:
  File "onnx.py", line 60, in __init__
deployments.backends.base.BackendError: provider cuda: no driver. Error 35.
The deployment failed to start 3 times in a row."""


@pytest.mark.parametrize(
    ("status", "message", "running", "words"),
    [
        ("RUNNING", "", 2, "running"),
        ("RUNNING", "", 0, "no replica is asked for"),
        ("WAITING", "waits for hardware: no node", 0, "waits for hardware: no node"),
        ("FULL", "waits for hardware: all in use", 1, "waits for hardware: all in use"),
        ("DEPLOYING", "", 0, "deploying"),
        ("DEPLOY_FAILED", TRACEBACK, 0, "deploy_failed: provider cuda: no driver. Error 35."),
        ("UNHEALTHY", "", 0, "unhealthy: no message"),
    ],
)
def test_a_state_is_told_with_its_reason_and_without_its_traceback(status, message, running, words):
    """The exception's own words are enough to act on."""
    assert state_words(status, message, running) == words
