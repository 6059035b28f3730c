"""Open Inference Protocol v2, protobuf: the messages that describe server and models. Values in, messages out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.json_format import ParseDict

from models.spec import ModelSpec, TensorSpec
from router.protocol import metadata
from router.protocol.metadata import ModelTotals
from router.protocol.proto import open_inference_pb2 as pb

_NOT_THE_SAME_WORD = {"BYTES": "STRING"}
"""Datatypes for which model configurations have another word than requests."""


def model_metadata(spec: ModelSpec, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """Inputs and outputs; of alternative sets of inputs all are listed, the preferred first. Symbolic axes are -1."""
    described = pb.ModelMetadataResponse.TensorMetadata

    def tensors(specs: Sequence[TensorSpec]) -> list[pb.ModelMetadataResponse.TensorMetadata]:
        return [described(name=t.name, datatype=t.datatype, shape=_extents(t)) for t in specs]

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


def model_statistics(models: Iterable[tuple[str, str, ModelTotals]]) -> pb.ModelStatisticsResponse:
    """See metadata.model_statistics."""
    answer = pb.ModelStatisticsResponse()
    ParseDict(metadata.model_statistics(models), answer)
    return answer


def repository_index(models: Iterable[tuple[str, str, bool]], only_ready: bool) -> pb.RepositoryIndexResponse:
    """See metadata.repository_entry."""
    entries = [metadata.repository_entry(*each) for each in models if each[2] or not only_ready]
    answer = pb.RepositoryIndexResponse()
    ParseDict({"models": entries}, answer)
    return answer


def _extents(tensor: TensorSpec) -> list[int]:
    return [axis if isinstance(axis, int) else -1 for axis in tensor.shape]


def _data_type(tensor: TensorSpec) -> pb.DataType:
    word = _NOT_THE_SAME_WORD.get(tensor.datatype, tensor.datatype)
    number: pb.DataType = pb.DataType.Value(f"TYPE_{word}")
    return number
