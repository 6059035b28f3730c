"""What the server part of a fleet file means: listeners, who reaches them, bounds. Notes faults; reads no file."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path

from router.config.problems import unknown
from router.config.read import Draft
from router.config.schema import Fleet
from router.config.schema_server import Limits, Server
from router.config.settings import AdminSettings, GrpcSettings, HttpSettings, LimitSettings, ServerSettings


def server_settings(draft: Draft[Fleet], here: Path, more_admin_keys: Iterable[str]) -> ServerSettings:
    """The settings of `server`; relative paths are relative to `here`. `more_admin_keys`: of the tenants file."""
    server = draft.value.server
    _check_ports(draft, server)
    _check_anonymous(draft, server)
    http, tls = server.http, server.http.tls
    return ServerSettings(
        http=HttpSettings(
            host=http.host,
            port=http.port,
            certificate=path_of(here, tls.certificate if tls else None),
            key=path_of(here, tls.key if tls else None),
            max_body_bytes=http.max_body_bytes,
            max_json_bytes=http.max_json_bytes,
            max_connections=http.max_connections,
            head_timeout_s=http.head_timeout,
            body_timeout_s=http.body_timeout,
            idle_timeout_s=http.idle_timeout,
            reveal_pools=http.reveal_pools,
        ),
        grpc=GrpcSettings(server.grpc.enabled, server.grpc.host, server.grpc.port),
        admin=AdminSettings(server.admin.host, server.admin.port, digests_of([*server.admin.keys, *more_admin_keys])),
        metrics_host=server.metrics.host,
        metrics_port=server.metrics.port,
        anonymous=server.anonymous.tenant if server.anonymous else "",
        routers=server.routers,
        drain_s=server.drain,
    )


def limit_settings(limits: Limits) -> LimitSettings:
    """The settings of `limits`."""
    return LimitSettings(
        queue_items_per_pool=limits.queue_items_per_pool,
        queue_bytes_per_pool=limits.queue_bytes_per_pool,
        body_bytes=limits.body_bytes,
        requests_per_tenant=limits.requests_per_tenant,
        max_elements=limits.max_elements,
        max_deadline_s=limits.max_deadline,
    )


def digests_of(keys: Iterable[str]) -> tuple[str, ...]:
    """Each digest once, without the prefix that names its kind."""
    return tuple(dict.fromkeys(key.removeprefix("sha256:") for key in keys))


def path_of(here: Path, path: str | None) -> str:
    """An absolute path, "" for none."""
    return str((here / path).resolve()) if path is not None else ""


def _check_ports(draft: Draft[Fleet], server: Server) -> None:
    """Two listeners on one port would take each other's connections, or fail to open."""
    seen: dict[int, str] = {}
    for name in ("http", "grpc", "metrics", "admin"):
        port = getattr(server, name).port
        if not port or (name == "grpc" and not server.grpc.enabled):
            continue
        if port in seen:
            draft.fault(f"server.{name}.port", f"{port} is the port of server.{seen[port]} already")
        seen.setdefault(port, name)


def _check_anonymous(draft: Draft[Fleet], server: Server) -> None:
    anonymous = server.anonymous
    if anonymous is None:
        return
    tenants = [tenant.id for tenant in draft.value.tenants]
    if anonymous.tenant not in tenants and draft.whole("tenants"):
        draft.fault("server.anonymous.tenant", unknown("tenant", anonymous.tenant, tenants))
    if anonymous.beyond_loopback:
        return
    open_to_all = [("http", server.http.host), *([("grpc", server.grpc.host)] if server.grpc.enabled else [])]
    for name, host in open_to_all:
        if not is_loopback(host):
            draft.fault(
                "server.anonymous",
                f"requests without a key would be taken from other machines (server.{name}.host is {host}): listen on "
                "127.0.0.1, or set beyond_loopback: true",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
