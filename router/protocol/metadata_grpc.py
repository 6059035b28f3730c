"""Open Inference Protocol v2, protobuf: the messages that describe server and models. Values in, messages out."""

from __future__ import annotations

from collections.abc import Sequence

from models.spec import ModelSpec, TensorSpec
from router.protocol.proto import open_inference_pb2 as pb

_NOT_THE_SAME_WORD = {"BYTES": "STRING"}
"""Datatypes for which model configurations have another word than requests."""


def model_metadata(spec: ModelSpec, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """Inputs and outputs; of alternative sets of inputs all are listed, the preferred first. Symbolic axes are -1."""
    metadata = pb.ModelMetadataResponse.TensorMetadata

    def tensors(specs: Sequence[TensorSpec]) -> list[pb.ModelMetadataResponse.TensorMetadata]:
        return [metadata(name=t.name, datatype=t.datatype, shape=_extents(t)) for t in specs]

    return pb.ModelMetadataResponse(
        name=spec.name,
        versions=versions,
        platform=spec.platform,
        inputs=[tensor for accepted in spec.accepted_inputs() for tensor in tensors(accepted)],
        outputs=tensors(spec.outputs),
    )


def model_config(spec: ModelSpec) -> pb.ModelConfigResponse:
    """What clients read of a configuration. With max_batch_size > 0, `dims` leave the batch axis out.

    Inputs of alternative sets are optional: no one of them is needed in every request.
    """
    accepted = spec.accepted_inputs()
    inputs = [
        pb.ModelInput(
            name=tensor.name,
            data_type=_data_type(tensor),
            dims=_extents(tensor)[1:],
            allow_ragged_batch=-1 in _extents(tensor)[1:],
            optional=len(accepted) > 1,
        )
        for tensors in accepted
        for tensor in tensors
    ]
    outputs = [pb.ModelOutput(name=t.name, data_type=_data_type(t), dims=_extents(t)[1:]) for t in spec.outputs]
    config = pb.ModelConfig(
        name=spec.name,
        platform=spec.platform,
        backend=spec.platform.partition("_")[0],
        max_batch_size=spec.batch.max_rows,
        input=inputs,
        output=outputs,
        dynamic_batching=pb.ModelDynamicBatching(),
    )
    return pb.ModelConfigResponse(config=config)


def model_statistics(specs: Sequence[ModelSpec]) -> pb.ModelStatisticsResponse:
    """Which models there are; their counts are in the metrics."""
    return pb.ModelStatisticsResponse(model_stats=[pb.ModelStatistics(name=s.name, version=s.version) for s in specs])


def repository_index(models: Sequence[tuple[str, str, bool]], only_ready: bool) -> pb.RepositoryIndexResponse:
    """`models`: (name, version, whether a pool that the tenant may use has it ready)."""
    index = pb.RepositoryIndexResponse.ModelIndex
    return pb.RepositoryIndexResponse(
        models=[
            index(
                name=name,
                version=version,
                state="READY" if ready else "UNAVAILABLE",
                reason="" if ready else "no pool that may serve it is ready",
            )
            for name, version, ready in models
            if ready or not only_ready
        ]
    )


def _extents(tensor: TensorSpec) -> list[int]:
    return [axis if isinstance(axis, int) else -1 for axis in tensor.shape]


def _data_type(tensor: TensorSpec) -> pb.DataType:
    word = _NOT_THE_SAME_WORD.get(tensor.datatype, tensor.datatype)
    number: pb.DataType = pb.DataType.Value(f"TYPE_{word}")
    return number
