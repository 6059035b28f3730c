"""A real MLServer as a pool, in an environment of its own (`make env-upstream`)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from stream_rig import STORE, expected, rows, until
from upstream_rig import Rig, output, pool_of

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-upstream" / "bin" / "python"
START_S = 60.0


class Server:
    """The process, which may be killed and started anew at the same port."""

    def __init__(self, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Come back at once."""
        model = STORE / "mlp" / "1" / "model.onnx"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [PYTHON, HERE / "mlserver_mlp.py", str(self.port), model], stdout=log, stderr=log, cwd=self.log.parent
            )

    def kill(self) -> None:
        """As the kernel does where memory is short."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """MLServer with the MLP under another name."""
    server = Server(tmp_path_factory.mktemp("mlserver") / "log")
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def rig(server: Server, tmp_path: Path) -> Rig:
    """A router with that pool and one of this machine."""
    more = ", tensors: json, names: {mlp: all-mlp}, versions: {mlp: '1'}"
    rig = await Rig(f"http://127.0.0.1:{server.port}", tmp_path, more).start()
    try:
        await until(rig.takes, START_S)
        yield rig
    finally:
        await rig.stop()


async def test_its_answers_are_the_models(rig: Rig) -> None:
    """One after the other and many at once, of one row and of several."""
    asked = [rows(number, 1 + number % 4) for number in range(40)]
    replies = await asyncio.gather(*(rig.ask(x) for x in asked))
    assert "far" in {pool_of(reply) for reply in replies}
    for x, reply in zip(asked, replies, strict=True):
        np.testing.assert_allclose(output(reply), expected(x), rtol=1e-4, atol=1e-5)


async def test_it_is_killed_and_comes_back(server: Server, rig: Rig) -> None:
    """Every request is answered, by the other pool while it is away."""
    assert pool_of(await rig.ask()) == "far"
    server.kill()
    assert {pool_of(await rig.ask()) for _ in range(20)} == {"cpu"}
    server.start()
    await until(rig.takes, START_S)
    assert pool_of(await rig.ask()) == "far"
