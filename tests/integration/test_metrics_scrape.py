"""Real router processes, kill -9, the real server process and HTTP: a scrape shows true totals."""

import select
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

ROOT = Path(__file__).parents[2]
WAIT_S = 30.0

ROUTER = """
import sys
from pathlib import Path
from router.core.facts import AcceleratorFacts, PoolFacts
from router.core.record import RequestRecord
from router.telemetry.metrics import Metrics

assert "prometheus_client" not in sys.modules
metrics = Metrics(Path(sys.argv[1]))
pool = PoolFacts("cpu", AcceleratorFacts("x86-cpu"), "eu", "cpu", False, {}, 1.0, ("mlp",))
metrics.configure(version="v1", tenants=["search"], models=["mlp"], pools=[pool])
for line in sys.stdin:
    for _ in range(int(line)):
        metrics.observe(RequestRecord(
            "r", "search", "mlp", "answered", 200, "cpu", attempts=1, run_s=0.25, total_s=0.5, deadline_met=True))
    metrics.set_pool("cpu", inflight=int(line), ready_replicas=2, queue_rows={})
    print(metrics.flush(), flush=True)
"""

OWNER = """
import subprocess, sys
subprocess.Popen(
    [sys.executable, "-m", "router.telemetry.server", "--dir", sys.argv[1], "--port", "0"], stdin=subprocess.PIPE
).wait()
"""


class Child:
    """One process of ours: line in, line out."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def say(self, line: str) -> str:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.hear()

    def hear(self) -> str:
        assert select.select([self.process.stdout], [], [], WAIT_S)[0], "no answer"
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.kill()
        self.process.wait(WAIT_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


@pytest.fixture
def start():
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(Child(*arguments))


def router(start, folder: Path) -> Child:
    return start("-c", ROUTER, folder)


def server(start, folder: Path, port: int = 0) -> tuple[Child, str]:
    child = start("-m", "router.telemetry.server", "--dir", folder, "--port", port)
    words = child.hear().split()
    assert words[:2] == ["metrics", "on"]
    return child, words[2]


def scrape(url: str) -> dict[str, float]:
    """Value by sample as it is written, for example `pointsman_inflight{pool="cpu"}`."""
    answer = httpx.get(url, timeout=WAIT_S).raise_for_status()
    samples = [sample for family in parse_text(answer.text) for sample in family.samples]
    return {
        sample.name + ",".join(f"{{{name}={value}}}" for name, value in sorted(sample.labels.items())): sample.value
        for sample in samples
    }


REQUESTS = "pointsman_requests_total{model=mlp},{outcome=answered},{tenant=search}"
RUN_COUNT = "pointsman_stage_seconds_count{model=mlp},{pool=cpu},{stage=run}"
RUN_SUM = "pointsman_stage_seconds_sum{model=mlp},{pool=cpu},{stage=run}"
INFLIGHT = "pointsman_inflight{pool=cpu}"


def test_totals_are_true_over_two_routers_of_which_one_is_killed_and_restarted(start, tmp_path):
    """Counters and histograms keep what the dead flushed; gauges are those of the living."""
    first, second = router(start, tmp_path), router(start, tmp_path)
    _, url = server(start, tmp_path)
    assert [first.say("1000"), second.say("234")] == ["True", "True"]
    assert scrape(url)[REQUESTS] == 1234
    assert scrape(url)[INFLIGHT] == 1234

    first.kill()
    seen = scrape(url)
    assert (seen[REQUESTS], seen[INFLIGHT], seen["pointsman_router_processes"]) == (1234, 234, 1)

    again = router(start, tmp_path)
    assert [again.say("6"), second.say("60")] == ["True", "True"]
    for seen in (scrape(url), scrape(url)):
        assert (seen[REQUESTS], seen[RUN_COUNT], seen[RUN_SUM]) == (1300, 1300, 325.0)
        assert (seen[INFLIGHT], seen["pointsman_router_processes"]) == (66, 2)
    assert len(list(tmp_path.glob("router-*.json"))) == 2


def test_a_server_killed_and_started_again_shows_the_same_totals(start, tmp_path):
    """It keeps nothing of its own."""
    dead, live = router(start, tmp_path), router(start, tmp_path)
    assert [dead.say("10"), live.say("5")] == ["True", "True"]
    one, url = server(start, tmp_path)
    dead.kill()
    assert scrape(url)[REQUESTS] == 15
    one.kill()
    _, url = server(start, tmp_path)
    assert scrape(url)[REQUESTS] == 15


def test_a_server_ends_with_its_owner(start, tmp_path):
    """The owner is killed outright; its output, which the server holds too, ends when the server does."""
    owner = start("-c", OWNER, tmp_path)
    url = owner.hear().split()[2]
    assert httpx.get(url.replace("/metrics", "/healthz")).text == "ok\n"
    owner.process.kill()
    assert owner.hear() == ""
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_taken_port_is_said_plainly_with_its_own_status(start, tmp_path):
    """The owner can tell it from other failures."""
    _, url = server(start, tmp_path)
    port = httpx.URL(url).port
    other = start("-m", "router.telemetry.server", "--dir", tmp_path, "--port", port)
    assert other.process.wait(WAIT_S) == 75
    assert other.process.stderr.read() == f"cannot serve metrics on 127.0.0.1:{port}: address in use\n"


def test_only_two_paths_and_one_method_are_served(start, tmp_path):
    """And OpenMetrics to those who ask for it."""
    _, url = server(start, tmp_path)
    assert httpx.get(url.replace("/metrics", "/")).status_code == 404
    assert httpx.post(url).status_code == 405
    answer = httpx.get(url, headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert [sample.value for family in parse_openmetrics(answer.text) for sample in family.samples] == [0.0, 0.0]


def test_connections_that_say_nothing_do_not_stop_a_scrape(start, tmp_path):
    """Fewer silent ones than there are threads."""
    _, url = server(start, tmp_path)
    address = httpx.URL(url)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection((address.host, address.port)))
        assert scrape(url)["pointsman_router_processes"] == 0


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_accepts_what_is_served(start, tmp_path):
    """The bytes as they come over HTTP."""
    child = router(start, tmp_path)
    assert child.say("3") == "True"
    _, url = server(start, tmp_path)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=httpx.get(url).content, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
