"""Whatever a fleet file says, it becomes settings or is refused with places in it: no other end."""

from __future__ import annotations

import copy
import json
import re
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.build import policy_table, routing_profile
from router.config.load import load
from router.config.problems import ConfigError
from router.config.settings import Settings

FLEET = {
    "accelerators": {"asic": {"source": "s", "as_of": "2026-01-01", "provider": "cpu", "export": {"tpp": 1.0}}},
    "pools": [
        {
            "name": "a",
            "accelerator": "asic",
            "region": "r",
            "models": ["m"],
            "cost": 1.0,
            "replicas": {"min": 0, "max": 2},
        },
        {
            "name": "b",
            "accelerator": "nvidia-h20",
            "region": "r",
            "models": ["n"],
            "backend": {"type": "emulated", "seed": 1, "time_scale": 2.0},
        },
    ],
    "tenants": [{"id": "t", "keys": ["sha256:" + "0" * 64], "labels": {"x": "y"}}],
    "policy_default": "deny",
    "policies": [{"name": "n", "when": "true", "prefer": "pool.emulated", "weight": 2.0, "from": "2026-01-01"}],
    "models": {"m": {"latency_target": "5ms", "deadline": "1s", "prefer": ["asic"]}},
    "routing": {"profile": {"filters": ["model"], "scorers": {"cost": 1.0}, "picker": "max_score"}},
    "server": {"http": {"host": "127.0.0.1", "port": 1, "max_body_bytes": 1}, "drain": "1s"},
    "limits": {"max_rows": 1},
    "stream": {"key_file": "k"},
    "model_store": "s",
}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([10**30, 10**400, "x" * 500]),
)
taken = st.sampled_from(["a", "b", "m", "asic", "default", "1s", "2026-01-01", "cpu", "true", "pool.name", "{", "%"])
values = st.recursive(
    scalars | taken,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()):
    """Every path of a value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


PLACES = [path for path in places(FLEET) if path]
changes = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(["set", "drop", "add", "twice"]), values), max_size=4
)


def changed(edits):
    fleet = copy.deepcopy(FLEET)
    for path, kind, value in edits:
        at = fleet
        try:
            for key in path[:-1]:
                at = at[key]
            if kind == "set":
                at[path[-1]] = value
            elif kind == "drop":
                del at[path[-1]]
            elif kind == "add":
                at[path[-1]]["zz"] = value
            else:
                at.append(copy.deepcopy(at[path[-1]]))
        except (KeyError, IndexError, TypeError, AttributeError):
            pass  # an earlier edit has taken the place away
    return fleet


@settings(max_examples=500, deadline=None)
@given(changes, st.booleans())
def test_any_change_of_a_fleet_file_loads_or_is_refused_with_its_places(edits, check_models):
    """Settings that load can be built and travel; a refusal names file and line for each fault."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.yaml"
        path.write_text(json.dumps(changed(edits), indent=1))
        try:
            loaded = load(path, {"m", "n"} if check_models else None)
        except ConfigError as error:
            refusals = [str(problem) for problem in error.problems]
        else:
            assert Settings.from_wire(json.loads(json.dumps(loaded.to_wire()))) == loaded
            routing_profile(loaded.routing)
            policy_table(loaded, {"m": (), "n": ()}).fill(0.0)
            return
    assert refusals
    assert all(re.match(rf"{re.escape(str(path))}:[1-9]\d*: ", refusal) for refusal in refusals)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | st.sampled_from([b"", b"\xff", b"pools: &a [*a]"])
)
def test_any_bytes_are_refused_in_words(content):
    """No fleet has fewer than 60 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.yaml"
        path.write_bytes(content)
        try:
            load(path)
        except ConfigError:
            return
    raise AssertionError("loaded")
