"""Which variant a pool serves."""

import itertools

import pytest

from models.spec import BatchRule, ModelSpec, TensorSpec, Variant
from models.variants import NoVariant, choose, chosen

ANY = Variant("fp32", "a.onnx", "")
CUDA = Variant("fp16", "b.onnx", "", "fp16", ("cuda", "cann"))
CHIP = Variant("int8", "c.onnx", "", "int8", ("chip-1",), {"batch": (1, 4)})


def model(*variants: Variant) -> ModelSpec:
    x = TensorSpec("x", "FP32", ("batch", 2))
    return ModelSpec("m", "1", (x,), (x,), BatchRule(8), variants)


@pytest.mark.parametrize("order", itertools.permutations((ANY, CUDA, CHIP)))
@pytest.mark.parametrize(
    ("accelerator", "provider", "name"),
    [("chip-1", "cuda", "int8"), ("chip-2", "cuda", "fp16"), ("chip-2", "cann", "fp16"), ("x86-cpu", "cpu", "fp32")],
)
def test_the_most_specific_goes_first_in_whatever_order_they_are_listed(order, accelerator, provider, name):
    """Class before provider before any."""
    assert choose(model(*order), accelerator, provider).name == name


def test_among_equals_the_first_listed_is_taken():
    """So that a file decides, and twice the same."""
    second = Variant("other", "d.onnx", "", "fp16", ("cuda",))
    assert [choose(model(*pair), "chip-2", "cuda").name for pair in ((CUDA, second), (second, CUDA))] == [
        "fp16", "other",
    ]  # fmt: skip


def test_a_pin_counts_whatever_the_variant_is_meant_for_and_only_for_its_model():
    """The operator knows a class that the model's author did not."""
    assert choose(model(ANY, CUDA), "acme", "acme-rt", "fp16").name == "fp16"
    assert chosen(model(ANY, CUDA), "acme", "acme-rt", {"m": "fp16"}).variants == (CUDA,)
    assert chosen(model(ANY, CUDA), "acme", "acme-rt", {"n": "fp16"}).variants == (ANY,)


def test_a_pool_without_variant_is_refused_with_what_there_is():
    """Never another class's variant in its place."""
    with pytest.raises(NoVariant) as error:
        choose(model(CUDA, CHIP), "x86-cpu", "cpu")
    assert str(error.value) == (
        "m has no variant for x86-cpu on provider cpu; it has fp16 (for cuda and cann), int8 (for chip-1)"
    )
    with pytest.raises(NoVariant, match=r"m has no variant 'fp61'; it has fp32 \(for any\), fp16"):
        choose(model(ANY, CUDA), "x86-cpu", "cpu", "fp61")


def test_batches_grow_no_larger_than_the_variant_takes():
    """Nor than the model allows."""
    assert chosen(model(ANY, CHIP), "chip-1", "x", {}).batch.max_rows == 4
    large = Variant("large", "e.onnx", "", sizes={"batch": (1, 64)})
    assert chosen(model(large), "chip-1", "x", {}).batch.max_rows == 8
