"""Plain Ray Serve, one hop, no router: one deployment parses, runs and answers.

Whether it is Serve's default or its HAProxy throughput mode is decided by the environment, read when ray is imported.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.http.peers.codec import MAX_BATCH, Model, decode, port
from benchmarks.http.workload import ROUTE


class Inline:
    """Runs each request by itself on the replica's loop."""

    def __init__(self) -> None:
        self.model = Model()

    async def __call__(self, request: Request) -> Response:
        rows = decode(await request.body())
        return Response(self.model.encode(self.model.run(rows)), media_type="application/json")


class Batched:
    """Stacks requests with @serve.batch; `wait_s` 0 takes what is there and never waits for more."""

    def __init__(self) -> None:
        self.model = Model()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0)
    async def infer(self, requests: list) -> list:
        return self.model.run_many(requests)

    async def __call__(self, request: Request) -> Response:
        rows = await self.infer(decode(await request.body()))
        return Response(self.model.encode(rows), media_type="application/json")


def bare_app(model: Model) -> Callable:
    """An ASGI app as lean as can be. A plain function: Serve's uvicorn takes a bound method for ASGI 2."""

    async def app(scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        answer = model.encode(model.run(decode(body)))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


class BareAsgi:
    """No starlette of ours: the bare app, built in the replica, so that the session is never pickled."""

    def __serve_build_asgi_app__(self) -> Callable:
        return bare_app(Model())


STYLES = {"inline": Inline, "batched": Batched, "asgi": serve.ingress()(BareAsgi)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--style", choices=sorted(STYLES), default="inline")
    parser.add_argument("--no-access-log", action="store_true")
    args = parser.parse_args()
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=128 * 2**20,
        _node_ip_address="127.0.0.1",
        _temp_dir=os.environ["BENCH_TMP"],
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port()})
    deployment = serve.deployment(
        STYLES[args.style],
        name="mlp",
        num_replicas=args.replicas,
        max_ongoing_requests=256,
        logging_config={"enable_access_log": not args.no_access_log},
    )
    serve.run(deployment.bind(), name="mlp", route_prefix=ROUTE)
    signal.pause()


if __name__ == "__main__":
    main()
