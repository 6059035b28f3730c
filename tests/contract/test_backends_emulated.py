"""The emulated backend: real answers, drawn times, in virtual time."""

import numpy as np
import pytest

from deployments.backends.base import BackendError, LoadContext
from deployments.backends.emulated import EmulatedBackend
from deployments.devices import tiny_model

PROFILE = """
accelerator: in-house-1
basis: assumed
note: made up for a test
models:
  tiny:
    - {rows: 1, p50_s: 0.010, p99_s: 0.020}
    - {rows: 3, p50_s: 0.030, p99_s: 0.060}
"""


class VirtualTime:
    """A clock that moves by `compute_s` at each reading, so by that much for one computation, and by each sleep."""

    def __init__(self, compute_s: float = 0.0) -> None:
        self.now_s = 100.0
        self.compute_s = compute_s
        self.slept: list[float] = []

    def clock_s(self) -> float:
        read_s = self.now_s
        self.now_s += self.compute_s
        return read_s

    def sleep_s(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


@pytest.fixture
def model(tmp_path):
    """Spec, inputs, the true answer."""
    return tiny_model(tmp_path)


@pytest.fixture
def emulate(model, tmp_path):
    """Build an emulated backend of the profile above (or of `text`) on a virtual clock."""

    def build(time: VirtualTime, text: str = PROFILE, **options: object) -> EmulatedBackend:
        path = tmp_path / "profile.yaml"
        path.write_text(text)
        options = {"accelerator": "in-house-1", "profile": str(path)} | options
        context = LoadContext(accelerator=str(options.pop("accelerator")))
        return EmulatedBackend(model[0], options, context, clock_s=time.clock_s, sleep_s=time.sleep_s)

    return build


def draws(backend: EmulatedBackend, time: VirtualTime, x: np.ndarray, batches: int) -> list[float]:
    """Waits of that many batches of x."""
    for _ in range(batches):
        backend.run({"x": x}, ())
    return time.slept


def test_the_answer_is_real_and_the_placement_says_emulated(model, emulate):
    """What is emulated is the time; where the nodes really ran stays visible."""
    _, inputs, expected = model
    backend = emulate(VirtualTime())
    np.testing.assert_allclose(backend.run(inputs, ("y",))["y"], expected["y"], atol=1e-5, rtol=0)
    assert backend.emulated
    assert backend.placement.provider == "CPUExecutionProvider"
    assert backend.placement.device.startswith("emulated in-house-1 on ")


def test_computation_and_wait_add_up_to_the_drawn_time(model, emulate):
    """With p50 = p99 the draw is known: interpolated in rows, times time_scale, less what the computation took."""
    sharp = PROFILE.replace("0.020", "0.010").replace("0.060", "0.030")
    time = VirtualTime(compute_s=0.004)
    backend = emulate(time, sharp, time_scale=2.0)
    for rows in (1, 2, 3, 4):
        backend.run({"x": model[1]["x"][:rows]}, ())
    assert time.slept == pytest.approx([0.020 - 0.004, 0.040 - 0.004, 0.060 - 0.004, 0.080 - 0.004])
    assert backend.overruns == 0


def test_a_computation_slower_than_its_draw_is_an_overrun(model, emulate):
    """It is answered at once and counted; the others are not."""
    time = VirtualTime(compute_s=10.0)
    backend = emulate(time)
    backend.run(model[1], ())
    assert (backend.overruns, time.slept) == (1, [])
    time.compute_s = 0.0
    backend.run(model[1], ())
    assert (backend.overruns, len(time.slept)) == (1, 1)


def test_the_same_seed_draws_the_same_times(model, emulate):
    """And another seed others."""
    runs = []
    for seed in (1, 1, 2):
        time = VirtualTime()
        runs.append(draws(emulate(time, seed=seed), time, model[1]["x"][:1], 20))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert len(set(runs[0])) == 20


def test_half_the_draws_are_below_p50_and_one_in_a_hundred_above_p99(model, emulate):
    """The lognormal goes through the profile's two quantiles."""
    time = VirtualTime()
    slept = np.array(draws(emulate(time, seed=5), time, model[1]["x"][:1], 4000))
    assert np.mean(slept < 0.010) == pytest.approx(0.5, abs=0.025)
    assert np.mean(slept > 0.020) == pytest.approx(0.01, abs=0.005)


def test_a_p90_is_met_as_well(model, emulate):
    """One in ten above it, with the other two quantiles where they were."""
    three = PROFILE.replace("0.020", "0.020, p90_s: 0.012").replace("0.060", "0.060, p90_s: 0.036")
    time = VirtualTime()
    slept = np.array(draws(emulate(time, three, seed=5), time, model[1]["x"][:1], 4000))
    assert np.mean(slept < 0.010) == pytest.approx(0.5, abs=0.025)
    assert np.mean(slept > 0.012) == pytest.approx(0.1, abs=0.015)
    assert np.mean(slept > 0.020) == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"acelerator": "x"}, "acelerator"),
        ({"time_scale": 0}, "time_scale must be above 0"),
        ({"time_scale": float("nan")}, "time_scale must be above 0"),
        ({"profile": "/nowhere.yaml"}, r"/nowhere\.yaml"),
        ({"profile": ""}, "no latency profile for accelerator 'in-house-1', known: huawei-ascend-310p"),
        ({"profile": "", "accelerator": "nvidia-h20"}, "no model 'tiny'"),
    ],
)
def test_options_that_cannot_be_met_are_refused_by_name(emulate, options, words):
    """Unknown key, impossible scale, a profile that is not there."""
    with pytest.raises(BackendError, match=words):
        emulate(VirtualTime(), **options)
