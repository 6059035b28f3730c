"""What is fuzzed, and what must hold of every input. A case raises where it does not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator

from models import tensors
from router.api.heads import RequestIds, read_head
from router.core.errors import RequestError, RouterError, UpstreamError
from router.protocol.codec import ParseLimits
from router.protocol.framing import FrameReader, LinkError, frame
from router.protocol.handshake import ClientHandshake, HandshakeError, ServerHandshake
from router.protocol.link import Tensor
from router.protocol.problem import PROBLEMS, problem_body

LIMITS = ParseLimits(max_elements=4096, max_json_bytes=4096)
KEY, NONCE, OTHER_NONCE = b"k" * 32, b"n" * 32, b"o" * 32
_IDS = RequestIds("fuzz")


def case(target: str) -> Callable[[bytes], None]:
    """The function that runs one input of `target`."""
    if target == "http":
        from tests.fuzz.http_rig import HttpRig

        return HttpRig().case
    if target == "h2":
        from tests.fuzz.h2_rig import H2Rig

        return H2Rig().case
    if target == "grpc":
        from tests.fuzz.grpc_target import read_grpc

        return read_grpc
    return {"json": read_json, "binary": read_binary, "frames": read_frames, "handshake": shake_hands}[target]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """`data` as a socket might give it: `size` bytes at a time, 0 for all at once."""
    for at in range(0, len(data), size or max(1, len(data))):
        yield data[at : at + (size or len(data))]


def read_json(data: bytes) -> None:
    """A JSON request body."""
    _exchange([], data)


def read_binary(data: bytes) -> None:
    """A body with binary tensors: two bytes say where its JSON ends."""
    length, body = int.from_bytes(data[:2], "big"), data[2:]
    _exchange([(b"inference-header-content-length", b"%d" % length)], body)


def _exchange(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Parse, and where it is a request answer it with its own tensors: the answer reads as well as the request did."""
    try:
        head = read_head(("m", ""), headers, _IDS)
        asked = head.codec.parse(body, LIMITS)
    except RequestError as error:
        said(error)
        return
    outputs = []
    for name, array in asked.inputs.items():
        datatype = tensors.datatype_of(array)
        assert array.dtype == tensors.DTYPES[datatype]
        assert not array.flags.writeable
        assert 1 <= len(name) <= 256
        outputs.append(Tensor(name, datatype, list(array.shape), tensors.to_wire(array, datatype)))
    try:
        answer = head.codec.encode("m", "1", asked, outputs)
    except (UpstreamError, RequestError) as error:
        said(error)
        return
    text = b"".join((answer.body, *answer.more))
    lines = dict(line.lower().split(b": ", 1) for line in answer.lines.split(b"\r\n") if line)
    end = int(lines.get(b"inference-header-content-length", len(text)))
    document = json.loads(text[:end])
    sizes = [one.get("parameters", {}).get("binary_data_size", 0) for one in document["outputs"]]
    assert sum(sizes) == len(text) - end
    assert [one["name"] for one in document["outputs"]] == list(asked.inputs)


def said(error: RouterError) -> None:
    """An error that a client can be told of."""
    assert error.reason in PROBLEMS, error.reason
    json.loads(problem_body(error.reason, error.detail, "r-1"))


def read_frames(data: bytes) -> None:
    """A stream: read at once or a few bytes at a time, the same messages, and the same ones when written again."""
    size, stream = data[0] if data else 0, data[1:]
    whole, parted = _messages(pieces(stream, 0)), _messages(pieces(stream, size))
    assert whole[1] == parted[1]
    if not whole[1]:
        assert whole[0] == parted[0]
        written = b"".join(itertools.chain.from_iterable(frame(message) for message in whole[0]))
        assert _messages([written]) == whole


def _messages(parts: Iterator[bytes] | list[bytes]) -> tuple[list[object], bool]:
    """What a reader makes of the parts, and whether the stream broke."""
    reader = FrameReader(max_message_bytes=64 * 1024, max_open_fragments=4)
    messages: list[object] = []
    try:
        for part in parts:
            messages += reader.feed(part)
    except LinkError:
        try:
            reader.feed(b"")
        except LinkError:
            return messages, True
        raise AssertionError("a broken stream reads on") from None
    return messages, False


def shake_hands(data: bytes) -> None:
    """A peer without the key: nobody is ever taken for proven but by the bytes of the one who has it."""
    if not data:
        return
    server, client = ServerHandshake(KEY, NONCE), ClientHandshake(KEY, OTHER_NONCE)
    hello = client.start()
    challenge, _, _ = ServerHandshake(KEY, NONCE).receive(hello)
    proof, _, _ = ClientHandshake(KEY, OTHER_NONCE).receive(challenge)
    true_peer = {server: hello + proof, client: challenge}
    for end in (server, client):
        taken = b""
        try:
            for part in pieces(data[1:], data[0]):
                taken += part
                to_send, proven, rest = end.receive(part)
                assert len(to_send) <= len(challenge)
                assert len(end._held) <= len(challenge)
                if proven:
                    assert taken.startswith(true_peer[end])
                    assert taken.endswith(rest)
                    break
        except HandshakeError:
            continue
