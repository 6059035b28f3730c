"""docs/protocol.md: its datatypes are those there are, its parameters are acted on or refused as it says."""

import json
import re

import pytest
from docs_pages import ROOT, blocks, code, table

from models.tensors import DTYPES
from router.core.errors import RequestError
from router.protocol.codec import BINARY_ONLY, ParseLimits
from router.protocol.metadata import server_metadata
from router.protocol.oip import JSON, OipCodec

PAGE = ROOT / "docs" / "protocol.md"
LIMITS = ParseLimits(100, 10_000)
INPUT = {"name": "x", "shape": [1], "datatype": "INT8", "data": [1]}


def parse(document):
    return JSON.parse(json.dumps(document).encode(), LIMITS)


def test_the_page_has_every_datatype_with_its_size_and_forms():
    """And no other."""
    told = {}
    for names, size, as_json, _ in table(PAGE, "datatype"):
        told |= dict.fromkeys(names.split(", "), (size, as_json != "–"))
    sizes = {name: str(dtype.itemsize) for name, dtype in DTYPES.items()} | {"BYTES": "any"}
    assert told == {name: (size, name not in BINARY_ONLY) for name, size in sizes.items()}


def test_the_request_of_the_page_reads():
    """With what it says of itself."""
    (text,) = blocks(PAGE, "json")
    parsed = JSON.parse(text.encode(), LIMITS)
    assert (parsed.id, parsed.outputs, parsed.parameters.timeout_us) == ("42", ("embedding",), 50_000)


def test_its_parameters_count_and_its_refused_ones_are_refused():
    """Each where the page says."""
    told = {row[0].strip("`"): row[1] for row in table(PAGE, "parameter")}
    assert told == {
        "timeout": "request", "priority": "request", "binary_data_output": "request", "binary_data": "output",
        "binary_data_size": "input",
    }  # fmt: skip
    parsed = parse({"inputs": [INPUT], "parameters": {"timeout": 5, "priority": 2, "binary_data_output": True}})
    assert (parsed.parameters.timeout_us, parsed.parameters.priority, parsed.all_binary) == (5, 2, True)
    refused = [name for name in code(PAGE) if re.match("sequence_|classification|shared_memory_", name)]
    assert len(refused) == 5
    for name in refused:
        with pytest.raises(RequestError, match="not supported"):
            parse({"inputs": [INPUT], "parameters": {name: 1}})


def test_the_page_tells_every_extension_that_the_server_names():
    """As clients look them up."""
    assert {*server_metadata("1")["extensions"]} <= {*code(PAGE)}


def test_the_length_in_the_curl_line_is_that_of_its_json():
    """And its tensor has as many bytes as it sends."""
    (script,) = blocks(PAGE, "sh")
    (text,) = re.findall(r"^JSON='(.*)'$", script, re.MULTILINE)
    (size,) = re.findall(r"head -c (\d+) /dev/zero", script)
    parsed = OipCodec(len(text)).parse(text.encode() + bytes(int(size)), LIMITS)
    assert parsed.inputs["x"].shape == (1, 256)
    assert parsed.wants_binary("y")
