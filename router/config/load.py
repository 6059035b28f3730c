"""The only file of the configuration that touches a disk: fleet file, tenants file, catalogue, key files.

Either the whole configuration is sound and comes back as settings, or ConfigError tells every fault of every file.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from router.config.accelerators import Classes, Described, described, facts_of, merged, origins
from router.config.check import settings_of
from router.config.check_backend import Kinds
from router.config.check_upstream import FILES
from router.config.document import MAX_BYTES, parse
from router.config.emulation import with_emulation
from router.config.problems import ConfigError, Problem
from router.config.read import Draft, read
from router.config.schema import Catalogue, Fleet, TenantsFile
from router.config.schema_accelerator import Source
from router.config.settings import UPSTREAM, HttpSettings, Settings
from router.core.facts import AcceleratorFacts

MIN_KEY_BYTES = 32
_CATALOGUE = Path(__file__).with_name("catalogue")


def load(
    path: Path,
    known_models: Collection[str] | None = None,
    kinds: Kinds = MappingProxyType({}),
    *,
    tenants_file_may_be_absent: bool = False,
) -> Settings:
    """Read and check a fleet file and what it names. Raises ConfigError.

    `known_models`: names in the model store; None leaves them unchecked. `kinds`: backend types that other packages
    add. A tenants file may be absent where keys are about to be made: then tenants without keys come back, whom nobody
    can be.
    """
    fleet = read(parse(_text(path), str(path)), Fleet)
    return _checked(fleet, path.parent, known_models, kinds, tenants_file_may_be_absent, certificates=True)


def load_value(
    fleet: Mapping[str, object],
    known_models: Collection[str] | None = None,
    kinds: Kinds = MappingProxyType({}),
    *,
    certificates: bool = True,
) -> Settings:
    """The same for a fleet as a value; its paths start from the root. `certificates`: try the files that it names."""
    draft = read(parse(json.dumps(fleet), "/fleet"), Fleet)  # in the root, from where its paths start
    return _checked(draft, Path("/"), known_models, kinds, False, certificates=certificates)


def _checked(
    fleet: Draft[Fleet],
    here: Path,
    known_models: Collection[str] | None,
    kinds: Kinds,
    tenants_file_may_be_absent: bool,
    *,
    certificates: bool,
) -> Settings:
    more: Draft[TenantsFile] | None = None
    if fleet.value.tenants_file is not None:
        tenants_path = here / fleet.value.tenants_file
        if os.path.exists(tenants_path):  # Path.exists raises on a name that is too long
            more = read(parse(_text(tenants_path), str(tenants_path)), TenantsFile)
        elif not tenants_file_may_be_absent:
            fleet.fault("tenants_file", f"there is no file {tenants_path}")
    settings = with_emulation(settings_of(fleet, more, _built_in()[0], known_models, kinds))
    if certificates:
        _check_tls(fleet, settings.server.http)
        _check_upstreams(fleet, settings)
    problems = [*fleet.problems, *(more.problems if more is not None else ())]
    if problems:
        raise ConfigError(problems)
    return settings


def _check_tls(fleet: Draft[Fleet], http: HttpSettings) -> None:
    """A certificate that cannot be used is a fault of the file, not of the first router that tries."""
    if not http.certificate:
        return
    try:
        tls_context(http)
    except (OSError, ssl.SSLError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        fleet.fault("server.http.tls", f"{http.certificate} and {http.key} cannot be used: {words}")


def _check_upstreams(fleet: Draft[Fleet], settings: Settings) -> None:
    """Nor is a file that its replicas could not read."""
    paths = {pool.name: path for path, pool in fleet.items("pools")}
    for pool in settings.pools:
        for key in FILES if pool.backend == UPSTREAM else ():
            if key in pool.options and not os.access(pool.options[key], os.R_OK):
                fleet.fault(f"{paths[pool.facts.name]}.backend.{key}", f"{pool.options[key]} cannot be read")


def tls_context(http: HttpSettings) -> ssl.SSLContext:
    """What the data listeners present to clients: TLS 1.2 or newer. Raises OSError and ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(http.certificate, http.key, password=_no_passphrase)
    return context


def tls_stamp(http: HttpSettings) -> tuple[tuple[int, int, int], ...]:
    """Differs once the certificate's files do. Raises OSError."""
    found = [os.stat(path) for path in (http.certificate, http.key)]
    return tuple((at.st_mtime_ns, at.st_ino, at.st_size) for at in found)


def _no_passphrase() -> str:
    """Asked for where a key is encrypted; without it OpenSSL would ask the terminal."""
    raise OSError("the key needs a passphrase")


def catalogue() -> dict[str, AcceleratorFacts]:
    """The built-in accelerator classes by name."""
    return {name: facts_of(name, entry) for name, entry in _built_in()[0].items()}


def accelerators(path: Path | None = None) -> tuple[Described, ...]:
    """Every class of the catalogue and of a fleet file's `accelerators`, with all that is known. Raises ConfigError."""
    classes, sources = _built_in()
    if path is not None:
        fleet = read(parse(_text(path), str(path)), Fleet)
        if fleet.problems:
            raise ConfigError(fleet.problems)
        classes = merged(classes, fleet.value.accelerators)
    return tuple(described(name, entry, sources) for name, entry in classes.items())


def tenants_yaml(digests: Mapping[str, str], admin_digest: str = "") -> str:
    """The text of a tenants file that gives each tenant of the fleet file one key, by its digest, and the operator."""
    lines = [f"  - {{id: {tenant}, keys: ['sha256:{digest}']}}" for tenant, digest in digests.items()]
    admin = [f"admin: {{keys: ['sha256:{admin_digest}']}}"] if admin_digest else []
    tenants = ["tenants:", *lines] if lines else []
    return "\n".join(["# Digests of API keys, not the keys themselves.", *tenants, *admin, ""])


def read_stream_key(path: Path) -> bytes:
    """The secret that both ends of a stream prove, stripped of white space. Raises ConfigError."""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError([Problem(str(path), 1, "", f"cannot be read: {error.strerror}")]) from None
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError([Problem(str(path), 1, "", f"holds {len(key)} bytes; a key needs {MIN_KEY_BYTES}")])
    return key


@cache
def _built_in() -> tuple[Classes, dict[str, Source]]:
    """The classes of the catalogue's files, and the sources that they cite. Raises ConfigError."""
    drafts = [read(parse(_text(path), path.name), Catalogue) for path in sorted(_CATALOGUE.glob("*.yaml"))]
    sources = {name: source for draft in drafts for name, source in draft.value.sources.items()}
    classes: Classes = {}
    for draft in drafts:
        for name, entry in draft.value.accelerators.items():
            at = f"accelerators.{name}"
            if name in classes:
                draft.fault(at, "stands in two files")
            classes[name] = entry.model_copy(update={"sources": draft.value.cited | entry.sources})
            cited = [origin.source for origin in origins(classes[name]).values()]
            for unknown in sorted({*cited, *(step.source for step in entry.licence)} - sources.keys()):
                draft.fault(at, f'cites "{unknown}", which is not among the sources')
    problems = [problem for draft in drafts for problem in draft.problems]
    if problems:
        raise ConfigError(problems)
    return classes, sources


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1).decode()
    except OSError as error:
        raise ConfigError([Problem(str(path), 1, "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem(str(path), 1, "", "is not UTF-8")]) from None
