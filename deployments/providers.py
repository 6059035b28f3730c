"""The execution providers as values: device, package, environment, image, options, and what they need of a machine.

The one table of what runs a pool; what places it comes from the catalogue, see placement.py. Imports no runtime.
"""

from __future__ import annotations

import msgspec


class Part(msgspec.Struct, frozen=True):
    """Something of the machine, not of a Python package, that a provider needs."""

    libraries: tuple[str, ...]
    """Beginnings of the names of its shared libraries."""
    what: str
    remedy: str
    """What to do where it is missing."""


class Provider(msgspec.Struct, frozen=True):
    """One execution provider that a pool may ask for."""

    ep: str
    """Name by which ONNX Runtime reports it."""
    device: str
    """Kind of device to run on, as ONNX Runtime, OpenVINO and Ray's resources name it."""
    image: str
    """Container image whose own interpreter has the provider, without registry and tag."""
    fork: str = ""
    """Distribution with the provider built in. It replaces onnxruntime's own folder: an environment of its own."""
    plugin: str = ""
    """Distribution that adds the provider to the plain onnxruntime, with the library of its get_library_path()."""
    environment: str = ""
    """Environment beside the main one that holds the fork, see environments.py; "" where the main one will do."""
    library: str = ""
    """File in the fork's onnxruntime/capi that is loaded with the first session."""
    opens: tuple[str, ...] = ()
    """Libraries that this file does not name but opens by itself."""
    options: tuple[tuple[str, str], ...] = ()
    """Options of each session. f32 stays f32: the defaults of these providers round it."""
    parts: tuple[Part, ...] = ()
    ours: tuple[str, ...] = ("device_id", "device_type", "load_config")
    """Options that a model's variant may not state: which device, and how it is held to f32, is not the model's."""


_DRIVER = Part(
    ("libcuda.",),
    "the NVIDIA driver",
    "install it on the machine; a container needs NVIDIA's container runtime and a GPU given to it",
)
_CUDA = Part(
    ("libcudart", "libcublas", "libcurand", "libcufft", "libnvrtc"),
    "CUDA 13",
    "use an image with it, or install onnxruntime-gpu[cuda,cudnn] into this environment",
)
_CUDNN = Part(("libcudnn",), "cuDNN 9", "as CUDA")
_TENSORRT = Part(
    ("libnvinfer", "libnvonnxparser"),
    "TensorRT 10",
    "use an image with it, or put its folder into LD_LIBRARY_PATH",
)
_ASCEND = Part(
    ("libascend_hal", "libdrvdsmi"),
    "the Ascend driver",
    "install it on the machine; a container needs the Ascend runtime and /dev/davinci*",
)
_CANN = Part(
    ("libascendcl", "libacl_op_compiler", "libfmk_onnx_parser", "libge_", "libgraph"),
    "the CANN toolkit",
    "use an image with it and source its set_env.sh before Ray starts",
)

PROVIDERS: dict[str, Provider] = {
    "cpu": Provider("CPUExecutionProvider", "CPU", "pointsman"),
    "openvino": Provider(
        "OpenVINOExecutionProvider",
        "CPU",
        "pointsman-openvino",
        fork="onnxruntime-openvino",
        plugin="onnxruntime-ep-openvino",
        environment="openvino",
    ),
    "cuda": Provider(
        "CUDAExecutionProvider",
        "GPU",
        "pointsman-cuda",
        fork="onnxruntime-gpu",
        environment="cuda",
        library="libonnxruntime_providers_cuda.so",
        opens=("libcudnn.so.9",),
        options=(
            ("use_tf32", "0"),
            ("arena_extend_strategy", "kSameAsRequested"),
            ("cudnn_conv_algo_search", "HEURISTIC"),
        ),
        parts=(_DRIVER, _CUDA, _CUDNN),
    ),
    "tensorrt": Provider(
        "TensorrtExecutionProvider",
        "GPU",
        "pointsman-tensorrt",
        fork="onnxruntime-gpu",
        environment="cuda",
        library="libonnxruntime_providers_tensorrt.so",
        opens=("libcuda.so.1",),
        options=(("trt_fp16_enable", "0"), ("trt_bf16_enable", "0"), ("trt_int8_enable", "0")),
        parts=(_DRIVER, _CUDA, _CUDNN, _TENSORRT),
    ),
    "cann": Provider(
        "CANNExecutionProvider",
        "NPU",
        "pointsman-cann",
        fork="onnxruntime-cann",
        environment="cann",
        library="libonnxruntime_providers_cann.so",
        options=(("precision_mode", "must_keep_origin_dtype"), ("arena_extend_strategy", "kSameAsRequested")),
        parts=(_ASCEND, _CANN),
    ),
}
"""Provider names of a pool's configuration, the only such table."""
