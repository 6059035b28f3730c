"""The .proto files and what was generated from them say the same, and it is what the protocol's clients say."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

import router.protocol.proto
from router.api.grpc_servicer import SERVICE
from router.protocol.proto import health_pb2, open_inference_pb2

FOLDER = Path(router.protocol.proto.__file__).parent
TYPES = {value: name[5:].lower() for name, value in vars(FieldDescriptor).items() if name.startswith("TYPE_")}
CLIENTS = Path(__file__).parents[4] / ".venv-clients" / "bin" / "python"
TRITON = (
    "import json\n"
    "from tritonclient.grpc import model_config_pb2, service_pb2\n"
    "def fields(m, out):\n"
    "    out.update({f'{m.full_name}.{f.name}': [f.number, f.type] for f in m.fields})\n"
    "    for n in m.nested_types: fields(n, out)\n"
    "    return out\n"
    "out = {}\n"
    "for d in (service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR):\n"
    "    for m in d.message_types_by_name.values(): fields(m, out)\n"
    "print(json.dumps(out))\n"
)


def fields_of(message: Descriptor) -> dict[str, tuple[int, str]]:
    """Full field name to number and type, nested messages included."""
    found = {}
    for field in message.fields:
        kind = field.message_type or field.enum_type
        found[field.full_name] = (field.number, kind.name if kind else TYPES[field.type])
        if field.message_type and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name
            found[field.full_name] = (
                field.number,
                f"map<{TYPES[entry['key'].type]}, {entry['value'].message_type.name}>",
            )
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            found |= fields_of(nested)
    return found


def fields_written(text: str) -> dict[str, tuple[int, str]]:
    """The same, read from a .proto file."""
    found, stack = {}, [re.search(r"package ([\w.]+);", text)[1]]
    for line in re.sub(r"//.*", "", text).splitlines():
        if opened := re.match(r"\s*(message|oneof|enum|service) (\w+) \{(\})?", line):
            if not opened[3]:
                stack.append("" if opened[1] == "oneof" else opened[2])
        elif line.strip() == "}":
            stack.pop()
        elif field := re.match(r"\s*(?:repeated )?(map<\w+, \w+>|\w+) (\w+) = (\d+);", line):
            found[".".join(filter(None, [*stack, field[2]]))] = (int(field[3]), field[1])
    return found


@pytest.mark.parametrize("module", [open_inference_pb2, health_pb2])
def test_what_was_generated_fits_its_source(module):
    """Whoever changes a .proto file without `make proto` is told."""
    text = (FOLDER / Path(module.DESCRIPTOR.name).name).read_text()
    generated = {}
    for message in module.DESCRIPTOR.message_types_by_name.values():
        generated |= fields_of(message)
    assert generated == fields_written(text)
    values = {f"{e.name}.{v.name}": v.number for e in module.DESCRIPTOR.enum_types_by_name.values() for v in e.values}
    assert all(re.search(rf"\b{name.split('.')[1]} = {number};", text) for name, number in values.items())
    calls = re.findall(r"rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\)", text)
    (service,) = module.DESCRIPTOR.services_by_name.values()
    assert calls == [
        (m.name, "stream " * m.client_streaming, m.input_type.name, "stream " * m.server_streaming, m.output_type.name)
        for m in service.methods
    ]


def test_the_wire_is_the_protocols():
    """Bytes written out by hand, field by field, from the protocol's definition."""
    by_hand = (
        b"\x0a\x01m\x12\x012\x1a\x02id"
        b"\x22\x0d\x0a\x07timeout\x12\x02\x10\x05"
        b"\x2a\x15\x0a\x01x\x12\x04FP32\x1a\x02\x01\x02\x2a\x06\x32\x04\0\0\x80\x3f"
        b"\x32\x03\x0a\x01y\x3a\x02ab"
    )
    message = open_inference_pb2.ModelInferRequest.FromString(by_hand)
    assert (message.model_name, message.model_version, message.id) == ("m", "2", "id")
    assert message.parameters["timeout"].int64_param == 5
    (given,) = message.inputs
    assert (given.name, given.datatype, list(given.shape)) == ("x", "FP32", [1, 2])
    assert list(given.contents.fp32_contents) == [1.0]
    assert message.outputs[0].name == "y"
    assert list(message.raw_input_contents) == [b"ab"]
    assert open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name == SERVICE


def test_every_field_is_tritons():
    """Against the descriptors of Triton's own client; in a process of its own environment, since one process cannot
    hold two definitions of one message."""
    assert CLIENTS.exists(), "make env-clients"
    done = subprocess.run([CLIENTS, "-c", TRITON], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)

    def compare(message: Descriptor) -> None:
        for field in message.fields:
            assert theirs[field.full_name] == [field.number, field.type]
        for nested in message.nested_types:
            compare(nested)

    for message in open_inference_pb2.DESCRIPTOR.message_types_by_name.values():
        compare(message)
