"""A gRPC listener over a real handler and a fleet of one pool that gives back what it gets. No Ray, no model."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest

from deployments.runtime import LoopTimers
from models.spec import BatchRule, ModelSpec, TensorSpec
from router.api.grpc_listener import GrpcListener
from router.api.grpc_servicer import SERVICE
from router.api.heads import RequestIds
from router.api.plane import DataPlane
from router.config.settings import GrpcSettings, HttpSettings
from router.core.eligibility import EligibilityRow, Verdict
from router.core.facts import AcceleratorFacts, PoolFacts, TenantFacts
from router.core.profile import default_profile
from router.core.record import RequestRecord
from router.policy.credentials import Credentials, digest
from router.protocol.codec import ParseLimits
from router.protocol.link import Answer, ModelGrant, Tensor
from router.protocol.proto import open_inference_pb2 as pb
from router.service.clock import SystemClock
from router.service.cycle import Cycle
from router.service.handler import Handler
from router.service.head import ModelDefaults
from router.service.reply import badge
from router.state.fleet_view import FleetView
from router.state.inflight import Ledger

KEY = (("authorization", "Bearer key"),)
SPEC = ModelSpec(
    "m", "1", (TensorSpec("x", "FP32", ("batch", 2)),), (TensorSpec("y", "FP32", ("batch", 2)),), BatchRule(8), ()
)
HTTP = HttpSettings("127.0.0.1", 0, "", "", 1 << 20, 1 << 20, 100, 10.0, 30.0, 75.0, True)
METHODS = {
    method.name: (getattr(pb, method.input_type.name), getattr(pb, method.output_type.name))
    for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
}


class Rig:
    """The listener, its handler, and the pool: answers at once, or when the test lets it (`hold`)."""

    def __init__(self, http: HttpSettings = HTTP, body_bytes: int = 1 << 22) -> None:
        loop = asyncio.get_running_loop()
        facts = PoolFacts("cpu", AcceleratorFacts("x86-cpu"), "here", "cpu", False, {}, 1.0, ("m",))
        self.ledger, clock = Ledger(), SystemClock()
        self.fleet = FleetView([facts], self.ledger, queue_items=64)
        self.records: list[RequestRecord] = []
        self.held: list[Ticket] = []
        self.hold = self.full = False
        self.reason = ""
        self.permits = True
        tenant = TenantFacts("t", (digest("key"),), 0, {})
        self.handler = Handler(
            specs={"m": {"1": SPEC}}, defaults={"m": ModelDefaults(0.1, 5.0, 60.0)}, credentials=Credentials([tenant]),
            policy=self, cycle=Cycle(self.fleet, self.ledger, default_profile(), random.Random(1)),
            timers=LoopTimers(loop), clock=clock, record=self.records.append,
            badges={"cpu": badge("cpu", "x86-cpu", False)}, limits=ParseLimits(1000, 1000), dispatcher=self,
        )  # fmt: skip
        self.plane = DataPlane(self.handler, RequestIds("rig"), http, body_bytes, "1.2.3")
        self.listener = GrpcListener(self.plane)
        self.up()

    def up(self) -> None:
        """The pool's replica is there."""
        self.fleet.replica_up("cpu", "r1", [ModelGrant("m", "1", 8, 64, 1 << 26, [(1, 1e-4), (8, 2e-4)])])

    # the handler's ports
    def lookup(self, *_: object) -> EligibilityRow:
        return EligibilityRow("v", {"cpu": Verdict(self.permits, "all", "")}, visible=True)

    def allowed(self, *_: object) -> set[str]:
        return {"cpu"} if self.permits else set()

    def send(self, pool, item, nbytes, deadline_s, on_answer, without=()):
        if self.full:
            return None
        ticket = Ticket(item, on_answer)
        if self.hold:
            self.held.append(ticket)
        else:
            asyncio.get_running_loop().call_soon(ticket.answer, self.reason)
        return ticket


class Ticket:
    """One item at the pool."""

    replica, waited_s = "r1", 0.0

    def __init__(self, item, on_answer) -> None:
        self.item, self.on_answer, self.cancelled = item, on_answer, False

    def cancel(self) -> None:
        self.cancelled = True

    def answer(self, reason: str = "") -> None:
        """Echo x as y, or fail."""
        if self.cancelled:
            return
        x = self.item.tensors[0]
        tensors = [] if reason else [Tensor("y", "FP32", x.shape, x.data)]
        self.on_answer(Answer(self.item.id, reason, "in words", True, 1, 1, 1, 1, tensors, "" if reason else "1"))


class Client:
    """Calls by name, with the key unless told otherwise."""

    def __init__(self, channel: grpc.aio.Channel, address: str = "") -> None:
        self.channel, self.address = channel, address

    def __call__(self, name: str, message=None, **more):
        ask, answer = METHODS[name]
        more.setdefault("metadata", KEY)
        call = self.channel.unary_unary(f"/{SERVICE}/{name}", ask.SerializeToString, answer.FromString)
        return call(message if message is not None else ask(), **more)

    def stream(self, **more):
        """A stream of inference."""
        more.setdefault("metadata", KEY)
        ask, answer = METHODS["ModelStreamInfer"]
        return self.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer", ask.SerializeToString, answer.FromString)(
            **more
        )


@asynccontextmanager
async def listening(rig: Rig, credentials: grpc.ChannelCredentials | None = None) -> AsyncIterator[Client]:
    """A client of the rig's listener."""
    host, port = await rig.listener.open(GrpcSettings(True, "127.0.0.1", 0))
    address = f"{host}:{port}"
    options = [("grpc.ssl_target_name_override", "localhost")]
    channel = (
        grpc.aio.secure_channel(address, credentials, options) if credentials else grpc.aio.insecure_channel(address)
    )
    async with channel:
        yield Client(channel, address)
        await rig.listener.leave(0.0, 0.5)


def infer(number: float = 1.0, **more) -> pb.ModelInferRequest:
    """A request for two numbers, raw."""
    more = {"model_name": "m", "id": f"n{number:g}"} | more
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 2])
    return pb.ModelInferRequest(inputs=[tensor], raw_input_contents=[np.array([number, 2], "<f4").tobytes()], **more)


def numbers(answer: pb.ModelInferResponse) -> list[float]:
    """Those of an answer."""
    return np.frombuffer(answer.raw_output_contents[0], "<f4").tolist()


async def until(holds) -> None:
    """Wait until `holds()`."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def refused(code: grpc.StatusCode, words: str = "") -> AsyncIterator[dict[str, str]]:
    """The call in the block ends with this status; gives its trailing metadata."""
    said: dict[str, str] = {}
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        yield said
    assert raised.value.code() is code
    assert words in raised.value.details()
    said.update(raised.value.trailing_metadata())
