"""Messages of the stream between a router replica and a pool replica, version 1, and their framing.

Before anything else both ends prove a shared key (handshake.py). Then every frame is
`u32 little-endian length | u8 kind | body`; a body is one msgpack array. Nothing is unpickled.
A message over FRAGMENT_BYTES travels as FRAGMENT frames between other frames (fragments.py).
"""

from __future__ import annotations

from typing import get_args

import msgspec

PROTOCOL_VERSION = 1
FRAGMENT_BYTES = 256 * 1024
WINDOW_BYTES = 4 * FRAGMENT_BYTES
"""Bytes of fragments on their way at the same time, each way of a stream. A small frame waits behind so much at most,
and no peer reads more at once; a large message takes a round trip for each so many bytes at least."""


class Tensor(msgspec.Struct, array_like=True, gc=False):
    """One tensor. `data` is little-endian, row-major; BYTES elements are each `u32 length | bytes`."""

    name: str
    datatype: str
    shape: list[int]
    data: memoryview


class Item(msgspec.Struct, array_like=True, gc=False):
    """One request for one replica. `id` is unique among the open items of the stream."""

    id: int
    model: str
    version: str
    """The version asked for; "": whichever the replica serves."""
    budget_us: int
    """Time left when the frame was written. Relative, so clocks need not agree."""
    priority: int
    tenant: str
    policy_version: str
    request_id: str
    rows: int
    outputs: list[str]
    """Names of the outputs wanted; empty: all."""
    tensors: list[Tensor]
    hops: int = 0
    """Routers that the request had passed before this one."""


class Answer(msgspec.Struct, array_like=True, gc=False):
    """What became of one item. `reason` is "" for success, else a reason of problem.py, with words in `detail`.

    `dispatched` tells whether the model may have run: if not, the item may be tried elsewhere.
    """

    id: int
    reason: str
    detail: str
    dispatched: bool
    queue_us: int
    batch_us: int
    run_us: int
    batch_rows: int
    tensors: list[Tensor]
    version: str = ""
    """Version of the model that ran; "" where none did."""


class ModelGrant(msgspec.Struct, array_like=True, gc=False):
    """What the stream may have open at once for one model, and the model's measured service time here."""

    model: str
    version: str
    max_rows: int
    items: int
    bytes: int
    curve: list[tuple[int, float]]
    """(rows, seconds) measured at warm-up, sorted by rows."""
    variant: str = ""
    """Name of the model's variant that is served here."""


class Load(msgspec.Struct, array_like=True, gc=False):
    """Load report of the replica, all streams together. Rows by model, running ones included."""

    waiting_rows: dict[str, int]
    draining: bool
    overruns: int
    """Emulated pools: batches that could not keep the drawn time, since start."""
    closed: dict[str, tuple[str, str]] = {}
    """Models that are not to be sent for now: the reason a request would be refused with, and words."""
    grants: list[ModelGrant] = []
    """What is granted for a model instead of what was; told once to each stream."""


class Welcome(msgspec.Struct, tag=1, array_like=True):
    """First message of the replica: who it is and what it grants."""

    version: int
    pool: str
    replica: str
    accelerator: str
    provider: str
    """Where the nodes really run, as ONNX Runtime reports it."""
    emulated: bool
    grants: list[ModelGrant]
    facts: str = ""
    """Digest of the pool's facts as the replica was started with them: what policy judged must be what runs."""


class Submit(msgspec.Struct, tag=2, array_like=True):
    """Router to replica: items to run.

    With `ack`, the replica counts the frame in the next Answers. Large messages travel in fragments beside others and
    ask for none, so that small ones never wait for them.
    """

    items: list[Item]
    ack: bool = True


class Cancel(msgspec.Struct, tag=3, array_like=True):
    """Router to replica: the answers to these items are of no use any more. Answered all the same, once each."""

    ids: list[int]


class Answers(msgspec.Struct, tag=4, array_like=True):
    """Replica to router: `acks` Submit frames taken in since the last one, answers in any order, and the load."""

    acks: int
    answers: list[Answer]
    load: Load


class Drain(msgspec.Struct, tag=5, array_like=True):
    """Replica to router: send nothing new; what is open will still be answered."""


class Ping(msgspec.Struct, tag=6, array_like=True):
    """Either way: answered by Pong. A peer that leaves a ping unanswered for its timeout is taken for dead."""

    nonce: int


class Pong(msgspec.Struct, tag=7, array_like=True):
    """Answer to Ping."""

    nonce: int


class Taken(msgspec.Struct, tag=8, array_like=True):
    """Either way: so many more bytes of fragments were read. At most WINDOW_BYTES are sent ahead of this."""

    nbytes: int


Message = Welcome | Submit | Cancel | Answers | Drain | Ping | Pong | Taken

KINDS: dict[type, int] = {kind: kind.__struct_config__.tag for kind in get_args(Message)}
"""The number of each kind of message on the wire."""
