"""A gRPC request: what comes after the five bytes of gRPC's own framing, and the answer to it."""

from __future__ import annotations

from models import tensors
from router.core.errors import RequestError, UpstreamError
from router.protocol.link import Tensor
from router.protocol.oip_grpc import MessageCodec, decode
from router.protocol.proto import open_inference_pb2 as pb
from tests.fuzz.targets import LIMITS, said


def read_grpc(data: bytes) -> None:
    """Parse, and where it is a request answer it with its own tensors: protobuf reads them back bit for bit."""
    try:
        codec = MessageCodec(decode(data))
        asked = codec.parse(b"", LIMITS)
    except RequestError as error:
        said(error)
        return
    outputs = []
    for name, array in asked.inputs.items():
        datatype = tensors.datatype_of(array)
        assert array.dtype == tensors.DTYPES[datatype]
        assert 1 <= len(name) <= 256
        outputs.append(Tensor(name, datatype, list(array.shape), tensors.to_wire(array, datatype)))
    try:
        answer = codec.encode("m", "1", asked, outputs)
    except (UpstreamError, RequestError) as error:
        said(error)
        return
    said_back = pb.ModelInferResponse.FromString(b"".join((answer.body, *answer.more)))
    assert said_back.id == asked.id
    assert [one.name for one in said_back.outputs] == list(asked.inputs)
    if said_back.raw_output_contents:
        assert list(said_back.raw_output_contents) == [bytes(one.data) for one in outputs]
