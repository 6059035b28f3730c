"""The process that serves /metrics: `python -m router.telemetry.server --dir DIR`. It never takes part in a request.

It lives as long as its owner: it ends at the end of file on --parent-fd (standard input by default), of which the
owner keeps the other end open. Exit status: 0 owner gone or interrupted, 75 address in use, 1 cannot start.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from router.telemetry.export import registry

_LOG = logging.getLogger("pointsman.telemetry")

EXIT_IN_USE = os.EX_TEMPFAIL
"""Another server has the address; for the owner this may be as good as its own."""
_THREADS = 4
_IDLE_S = 5.0

_App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Handler(WSGIRequestHandler):
    timeout = _IDLE_S

    def log_message(self, format: str, *args: Any) -> None:
        _LOG.debug(format, *args)


class _Server(WSGIServer):
    """Each of a few threads takes one connection at a time: what is more waits in the backlog."""

    def __init__(self, host: str, port: int, app: _App) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        # HTTPServer's own asks DNS for the name of the host, which may hang.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _LOG.info("request from %s failed: %s", client_address, sys.exception())

    def work(self) -> None:
        """Serve for ever."""
        while True:
            self.handle_request()


def application(folder: Path) -> _App:
    """WSGI: GET /metrics (text or OpenMetrics, as Accept asks) and GET /healthz, nothing else."""
    metrics = make_wsgi_app(registry(folder))

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        status, body, headers = "200 OK", b"ok\n", [("Content-Type", "text/plain; charset=utf-8")]
        if path not in ("/metrics", "/healthz"):
            status, body = "404 Not Found", b"only /metrics and /healthz are here\n"
        elif environ["REQUEST_METHOD"] != "GET":
            status, body = "405 Method Not Allowed", b"only GET\n"
            headers.append(("Allow", "GET"))
        elif path == "/metrics":
            try:
                return metrics(environ, start_response)  # type: ignore[no-any-return]
            except OSError as error:
                _LOG.warning("cannot read %s: %s", folder, error)
                status, body = "503 Service Unavailable", b"the metrics folder cannot be read\n"
        start_response(status, headers)
        return [body]

    return app


def wait_for_end_of_file(fd: int) -> None:
    """Return once every process holding the other end is gone. What arrives on the way is dropped."""
    with suppress(OSError):
        while os.read(fd, 4096):
            pass


def main(arguments: list[str] | None = None) -> int:
    """Run until the owner is gone. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m router.telemetry.server", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder that the routers of this node write to")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8002, help="0: any free one, printed")
    parser.add_argument("--parent-fd", type=int, default=0, help="end when this file descriptor does")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    try:
        options.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        server = _Server(options.host, options.port, application(options.dir))
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        where = f"{options.host}:{options.port}"
        sys.stderr.write(f"cannot serve metrics on {where}: {'address in use' if in_use else error}\n")
        return EXIT_IN_USE if in_use else 1
    sys.stdout.write(f"metrics on http://{server.server_name}:{server.server_port}/metrics\n")
    sys.stdout.flush()
    for _ in range(_THREADS):
        threading.Thread(target=server.work, daemon=True).start()
    with suppress(KeyboardInterrupt):
        wait_for_end_of_file(options.parent_fd)
    return 0


if __name__ == "__main__":
    sys.exit(main())
