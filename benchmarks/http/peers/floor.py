"""The floor: uvicorn (uvloop, httptools) with a raw ASGI app that answers a stored body. No parsing, no model."""

from __future__ import annotations

import numpy as np
import uvicorn

from benchmarks.http.peers.codec import Model, port
from benchmarks.http.workload import WIDTH


def build() -> object:
    """An ASGI app whose answer has the size and form of the real one."""
    model = Model()
    answer = model.encode(model.run(np.linspace(-1, 1, WIDTH, dtype=np.float32)[None]))
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))],
    }

    async def app(scope: dict, receive: object, send: object) -> None:
        while (await receive()).get("more_body"):
            pass
        await send(start)
        await send({"type": "http.response.body", "body": answer})

    return app


if __name__ == "__main__":
    uvicorn.run(
        build(),
        host="127.0.0.1",
        port=port(),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        interface="asgi3",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
    )
