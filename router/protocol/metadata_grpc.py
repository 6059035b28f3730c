"""Open Inference Protocol v2, protobuf: the messages that describe server and models. Values in, messages out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.json_format import ParseDict

from models.spec import ModelSpec
from router.protocol import metadata
from router.protocol.metadata import ModelTotals
from router.protocol.proto import open_inference_pb2 as pb


def model_metadata(spec: ModelSpec, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """See metadata.model_metadata; the messages have no place for which alternative an input belongs to."""
    answer = pb.ModelMetadataResponse()
    ParseDict(metadata.model_metadata(spec, versions), answer, ignore_unknown_fields=True)
    return answer


def model_config(spec: ModelSpec) -> pb.ModelConfigResponse:
    """See metadata.model_config; what clients read of it, and which inputs are ragged."""
    answer = pb.ModelConfigResponse()
    ParseDict({"config": metadata.model_config(spec)}, answer, ignore_unknown_fields=True)
    for tensor in answer.config.input:
        tensor.allow_ragged_batch = -1 in tensor.dims
    return answer


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
