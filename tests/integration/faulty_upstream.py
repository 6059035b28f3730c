"""A small server of the Open Inference Protocol for the bundled MLP, which misbehaves as told. Real sockets."""

from __future__ import annotations

import asyncio
import json

import numpy as np

PLUS = 1.0
"""The answer is the input and this, so that a test can tell its answers from the model's."""


class FaultyUpstream:
    """`kill` and `listen`. `mode`: ok, hung (whatever it is asked), stuck (inference alone), slow, 403, 403 but probes,
    lying (ready, but every inference is a 500), 429, 500, no pool (503 as another Pointsman's), unready.
    """

    def __init__(self) -> None:
        self.mode = "ok"
        self.slow_s = 0.3
        self.ready_s = 0.0
        """How long it takes to say that it is ready."""
        self.retry_after = "1"
        self.datatype = "FP32"
        self.max_rows = 1024
        self.version = "1"
        self.pending: int | str = 0
        """Requests of others that wait, as its metrics say; "" for no page."""
        self.json_length = ""
        """Said in place of the true length of an answer's JSON."""
        self.padding = 0
        """Bytes more in each answer about readiness."""
        self.headers: dict[str, str] = {}
        """Said with every answer."""
        self.seen: list[tuple[dict[str, str], dict]] = []
        """Headers and document of each inference request that is no probe."""
        self.probes = 0
        self.aborted = 0
        """Inference requests whose client hung up before the answer."""
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def listen(self) -> FaultyUpstream:
        """Accept, at the port it had before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def kill(self) -> None:
        """As kill -9 does: the port is closed, every connection reset."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request, *lines = head.decode("latin-1").split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                status, more, content = await self._answer(request.split(" ")[1], headers, body, reader)
                all_headers = {**more, **self.headers, "content-length": str(len(content))}
                text = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
                writer.write(f"HTTP/1.1 {status} Said\r\n{text}\r\n".encode() + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, path: str, headers: dict, body: bytes, reader: asyncio.StreamReader) -> tuple:
        if path.endswith("/infer"):
            return await self._infer(headers, body, reader)
        if path == "/metrics" and self.pending == "":
            return 500, {}, b""
        if path == "/metrics":
            return 200, {}, f'nv_inference_pending_request_count{{model="mlp",version="1"}} {self.pending}\n'.encode()
        if self.mode == "hung":
            await self._hang(reader)
        if path.endswith("/ready"):
            await asyncio.sleep(self.ready_s)
            return (503 if self.mode == "unready" else 200), {}, b" " * self.padding
        tensor = {"datatype": self.datatype, "shape": [-1, 256]}
        metadata = {"name": "mlp", "inputs": [{"name": "x", **tensor}], "outputs": [{"name": "y", **tensor}]}
        return 200, {}, json.dumps(metadata).encode()

    async def _infer(self, headers: dict, body: bytes, reader: asyncio.StreamReader) -> tuple:
        length = headers.get("inference-header-content-length")
        document = json.loads(body if length is None else body[: int(length)])
        is_probe = document["id"].startswith("probe-")
        if is_probe:
            self.probes += 1
        else:
            self.seen.append((headers, document))
        if self.mode in ("hung", "stuck"):
            try:
                await self._hang(reader)
            finally:
                self.aborted += 1
        if self.mode == "slow":
            await asyncio.sleep(self.slow_s)
        if self.mode == "403" or (self.mode == "403 but probes" and not is_probe):
            return 403, {}, b'{"error": "no", "reason": "policy_denied"}'
        if self.mode == "no pool":
            return 503, {"retry-after": "1"}, b'{"error": "no", "reason": "no_ready_pool"}'
        if self.mode in ("500", "lying"):
            return 500, {}, b'{"error": "CUDA error at 10.0.0.7"}'
        if self.mode == "429":
            return 429, {"retry-after": self.retry_after} if self.retry_after else {}, b'{"error": "busy"}'
        (given,) = document["inputs"]
        if given["shape"][0] > self.max_rows:
            return 400, {}, b'{"error": "not taken"}'
        data = body[int(length) :] if length is not None else np.array(given["data"], "<f4").tobytes()
        y = np.frombuffer(data, "<f4") + np.float32(PLUS)
        output = {"name": "y", "datatype": "FP32", "shape": given["shape"]}
        if length is None:
            answer = {"model_name": "mlp", "model_version": self.version, "outputs": [{**output, "data": y.tolist()}]}
            return 200, {}, json.dumps(answer).encode()
        output["parameters"] = {"binary_data_size": y.nbytes}
        head = json.dumps({"model_name": "mlp", "model_version": self.version, "outputs": [output]}).encode()
        return 200, {"Inference-Header-Content-Length": self.json_length or str(len(head))}, head + y.tobytes()

    async def _hang(self, reader: asyncio.StreamReader) -> None:
        """Until the client hangs up."""
        await reader.read(1)
        raise ConnectionError
