"""The only door to onnxruntime: loads a verified model on the provider asked for and proves where its nodes run.

Never settles for another provider: a session whose nodes are not all where they were asked to be does not start.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json
import os
import threading
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import onnxruntime as ort

from deployments.backends.base import Arrays, Backend, BackendError, LoadContext, Placement, parse_options
from deployments.backends.libraries import absent, words
from deployments.backends.onnx_values import UnusualTensors
from deployments.providers import PROVIDERS, Provider
from models.repository import RepositoryError, verify
from models.spec import ModelSpec

_registered: set[str] = set()
_registering = threading.Lock()
"""ONNX Runtime registers a plugin library once per process and keeps it."""


class OnnxOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the `onnx` backend. `threads` compute one operator of one batch; the caller's own is one of them."""

    provider: str = "cpu"
    threads: int = 1


class OnnxBackend(Backend):
    """One model in one ONNX Runtime session: the variant that the spec was narrowed to, else its first. What the file
    computes in f32 stays f32 on every provider."""

    api_version = 1
    Options = OnnxOptions

    def __init__(self, spec: ModelSpec, options: Mapping[str, Any], context: LoadContext | None = None) -> None:
        """Raises BackendError: bad options, file missing or altered, provider or device missing, nodes elsewhere."""
        asked = parse_options(OnnxOptions, options)
        provider = _provider(asked.provider)
        if asked.threads < 1:
            raise BackendError(f"backend options: threads must be at least 1, not {asked.threads} - at `$.threads`")
        path = _verified_file(spec)
        session_options = _session_options(asked.threads)
        own = spec.variants[0].provider_options.get(asked.provider, {})
        providers, device = _bind(session_options, asked.provider, provider, asked.threads, own)
        try:
            # enable_fallback=0: the Python wrapper would otherwise answer a provider's failure, at load and also
            # at run, by building the session again on the CPU, with only a line on stdout.
            session = ort.InferenceSession(path, session_options, providers=providers, enable_fallback=0)
        except Exception as error:  # ONNX Runtime's exceptions share no base below Exception
            raise BackendError(f"{spec.name}: {provider.ep} could not load {path}: {error}{_hint(error)}") from error
        self.placement = _proven_placement(session, spec.name, provider.ep, device)
        self._name = spec.name
        self._outputs = tuple(output.name for output in session.get_outputs())
        self._unusual = UnusualTensors(session, spec.name, ort.OrtValue)
        self._session: Any = session

    def run(self, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
        """Run one stacked batch; `outputs` () means all of them. Releases the GIL. Raises BackendError, InputError."""
        session = self._session
        if session is None:
            raise BackendError(f"{self._name}: the session is closed")
        names = list(outputs or self._outputs)
        try:
            values = self._unusual.run(session, names, inputs) if self._unusual else session.run(names, inputs)
        except BackendError:
            raise
        except Exception as error:  # as above
            raise BackendError(f"{self._name}: {error}") from error
        return dict(zip(names, values, strict=True))

    def close(self) -> None:
        """Release the session; a run that is under way ends first."""
        self._session = None


def missing(name: str) -> str:
    """Why this process cannot tie a session to the provider of that name, "" where it can.

    Loads a plugin's library or looks for those of a built-in provider, and runs nothing: only a session proves more.
    """
    try:
        provider = _provider(name)
        if not _built_in(provider):
            _plugin_device(name, provider)
    except BackendError as error:
        return str(error)
    return ""


def _built_in(provider: Provider) -> bool:
    """Whether this process's onnxruntime holds it. Its device may be missing all the same."""
    return provider.ep in ort.get_available_providers()


def _provider(name: str) -> Provider:
    """The provider of that name, if this environment and this machine can have it. Raises BackendError."""
    provider = PROVIDERS.get(name)
    if provider is None:
        raise BackendError(
            f"backend options: unknown provider {name!r}, known: {', '.join(PROVIDERS)} - at `$.provider`"
        )
    if several := _several_builds():
        raise BackendError(several)
    if _built_in(provider):
        if lacks := _lacks(provider):
            raise BackendError(f"provider {name}: {provider.ep} cannot load on this machine. Missing: {lacks}.")
    elif not provider.plugin:
        raise BackendError(
            f"provider {name}: {provider.ep} is not in this build, {build()}. It needs the package {provider.fork}, "
            f"which replaces onnxruntime: an environment of its own (`make env-{provider.environment}`) or an image "
            f"that has it ({provider.image})."
        )
    return provider


def build() -> str:
    """The build of ONNX Runtime that this process runs, as `package version`."""
    return " and ".join(f"{owner.name} {owner.version}" for owner in _owners()) or f"onnxruntime {ort.__version__}"


@cache
def _owners() -> list[importlib.metadata.Distribution]:
    """Installed distributions that hold the folder `onnxruntime` which was imported."""
    site = Path(ort.__file__).parents[1]
    found = [importlib.metadata.Distribution.at(path) for path in sorted(site.glob("*onnxruntime*.dist-info"))]
    return [one for one in found if any(file.parts[:1] == ("onnxruntime",) for file in one.files or ())]


def _several_builds() -> str:
    """Words where several distributions own that folder, else "". Neither pip nor the import says so."""
    if len(_owners()) < 2:
        return ""
    return (
        f"several packages own the folder onnxruntime of this environment: {build()}. Which one runs depends on the "
        "order of installation. Uninstall them all and install one; give each other its own environment."
    )


@cache
def _lacks(provider: Provider) -> str:
    """Words for the libraries that a built-in provider needs and this machine has not, "" where it has them all."""
    if not provider.library:
        return ""
    with contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls(msvc=False)  # those of NVIDIA's wheels, where they are installed; it prints what it lacks
    library = Path(ort.__file__).parent / "capi" / provider.library
    return words(absent(library, provider.opens), provider.parts)


def _verified_file(spec: ModelSpec) -> str:
    """Path of the model file whose digest was just checked. Raises BackendError."""
    if not spec.variants:
        raise BackendError(f"{spec.name}: the model has no variant to load")
    try:
        verify(spec)
    except RepositoryError as error:
        raise BackendError(f"{spec.name}: {error}") from error
    return str(Path(spec.folder) / spec.variants[0].file)


def _session_options(threads: int) -> Any:
    """Session options that every provider shares."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads would otherwise burn the cores that the other pools of the machine compute on.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _bind(
    session_options: Any, name: str, provider: Provider, threads: int, own: dict[str, str]
) -> tuple[list[Any] | None, str]:
    """Tie the session to the provider's device; its `providers` argument and the device's name. Raises BackendError.

    `own`: provider options of the model's variant.
    """
    if taken := sorted(own.keys() & set(provider.ours)):
        raise BackendError(f"provider {name}: a variant's provider_options may not state {', '.join(taken)}")
    settings = dict(provider.options)
    if name == "openvino":
        settings["load_config"] = _openvino_config(threads)
    settings |= own
    if name != "cpu":
        session_options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if not _built_in(provider):
        # Naming a plugin provider in `providers` silently runs on the CPU; only its devices bind it.
        device = _plugin_device(name, provider)
        session_options.add_provider_for_devices([device], settings)
        return None, _device_name(device)
    if name == "openvino":
        settings["device_type"] = provider.device
    # OpenVINO built in lists no devices: the machine's one of that kind is then known by the CPU provider's entry.
    here = sorted(ort.get_ep_devices(), key=lambda d: d.ep_name != provider.ep)
    names = [_device_name(d) for d in here if d.device.type.name == provider.device]
    return [(provider.ep, settings)], names[0] if names else provider.device


def _plugin_device(name: str, provider: Provider) -> Any:
    """The device that the provider's plugin offers here. Raises BackendError."""
    _register(name, provider)
    here = ort.get_ep_devices()
    for device in here:
        if device.ep_name == provider.ep and device.ep_metadata.get("ov_device", provider.device) == provider.device:
            return device
    kinds = ", ".join(sorted({f"{d.device.type.name} {d.device.vendor}" for d in here}))
    raise BackendError(
        f"provider {name}: {provider.plugin} {importlib.metadata.version(provider.plugin)} is loaded but offers no "
        f"{provider.device} device on this machine ({kinds}). Its plugin lists Intel devices only; run this pool on a "
        f"machine with one, in an environment with {provider.fork} instead (`make env-{provider.environment}`), or "
        "with provider cpu."
    )


def _register(name: str, provider: Provider) -> None:
    """Load the plugin library into this process, once. Raises BackendError."""
    with _registering:
        if provider.ep in _registered:
            return
        try:
            library = importlib.import_module(provider.plugin.replace("-", "_")).get_library_path()
            if not os.path.exists(library):
                raise FileNotFoundError(f"no such library: {library}")
            ort.register_execution_provider_library(provider.ep, library)
        except ImportError as error:
            raise BackendError(
                f"provider {name}: the package {provider.plugin} is not installed ({error}): install it beside "
                f"onnxruntime, or `make env-{provider.environment}`"
            ) from error
        except Exception as error:
            raise BackendError(
                f"provider {name}: the plugin library of {provider.plugin} cannot be loaded: {error}"
            ) from error
        _registered.add(provider.ep)


def _openvino_config(threads: int) -> str:
    """OpenVINO's own settings. Left alone it computes in bf16 where the CPU can, and takes and pins every core."""
    return json.dumps(
        {
            "CPU": {
                "INFERENCE_PRECISION_HINT": "f32",
                "INFERENCE_NUM_THREADS": str(threads),
                "NUM_STREAMS": "1",
                "ENABLE_CPU_PINNING": "NO",
            }
        }
    )


def _hint(error: Exception) -> str:
    """What an answer of the runtime means that says only what it did not do."""
    if "fallback to CPU EP" not in str(error):
        return ""
    return " So the provider did not start here, or cannot hold the whole model: the log has its own words before this."


def _device_name(device: Any) -> str:
    """Name of a device as its provider or the runtime reports it."""
    found = device.ep_metadata.get("FULL_DEVICE_NAME") or device.device.metadata.get("Description")
    return found or f"{device.device.vendor} {device.device.type.name}"


def _proven_placement(session: Any, model: str, ep: str, device: str) -> Placement:
    """What the runtime says of where the optimised graph's nodes went. Raises BackendError if any is elsewhere."""
    nodes: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        nodes[part.ep_name] += len(part.get_nodes())
    there = nodes.pop(ep, 0)
    if nodes or not there:
        elsewhere = ", ".join(f"{count} on {other}" for other, count in nodes.items()) or "none at all"
        raise BackendError(f"{model}: asked for {ep}, which runs {there} nodes; the others: {elsewhere}")
    return Placement(provider=ep, nodes=there, other_nodes=0, device=device)
