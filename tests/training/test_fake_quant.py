"""The rounding that training sees, against the arithmetic that quantizes: the same bits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.quantization.arithmetic import blocks, weights
from edgecompress.training.fake_quant import (
    activation_codes,
    activation_grid,
    fake_block_rows,
    fake_linear,
    fake_rows,
    fitting_block,
    weight_codes,
)
from edgecompress.training.qat_fields import Qat

SCHEMES = [
    {},
    {"per_channel": False},
    {"reduce_range": True},
    {"weight": "uint8"},
    {"weight": "uint8", "symmetric": False},
    {"weight": "uint8", "symmetric": False, "per_channel": False, "reduce_range": True},
]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_codes_and_scales_of_a_weight_are_those_of_the_quantizer(scheme):
    plan = Qat(**scheme)
    random = np.random.default_rng(3)
    weight = (random.standard_normal((37, 64)) * random.lognormal(size=(37, 1))).astype(np.float32)
    weight[4] = 0  # a dead output
    weight[5] = np.abs(weight[5])
    made = weights.quantize_linear(
        np.ascontiguousarray(weight.T),
        per_channel=plan.per_channel,
        reduce_range=plan.reduce_range,
        unsigned=plan.weight == "uint8",
        symmetric=plan.symmetric,
    )
    codes, scale = weight_codes(torch.from_numpy(weight), plan)
    expected = made.values.astype(np.int32) - made.zero_point.astype(np.int32)
    assert np.array_equal(codes.numpy().T, expected.astype(np.float32))
    assert np.array_equal(scale.numpy().ravel(), made.scale.ravel())


@given(
    low=st.floats(-1e4, 1e4, width=32), high=st.floats(-1e4, 1e4, width=32), signed=st.booleans()
)
@settings(max_examples=200, deadline=None)
def test_the_grid_of_a_range_is_that_of_the_quantizer(low, high, signed):
    low, high = min(low, high), max(low, high)
    find = weights.symmetric if signed else weights.asymmetric
    expected = find(low, high)
    if signed:  # a range always holds 0
        expected = find(min(low, 0), max(high, 0))
    scale, zero = activation_grid(torch.tensor([low, high]), signed)
    assert scale.numpy() == expected[0] and zero.numpy() == expected[1].astype(np.float32)


def test_a_table_of_one_scale_and_one_of_blocks_look_up_what_is_stored():
    random = np.random.default_rng(0)
    table = (random.standard_normal((90, 96)) * random.lognormal(size=(90, 1))).astype(np.float32)
    rows = torch.from_numpy(table)[[5, 0, 89, 5]]
    made = weights.quantize_table(table)
    stored = (made.values.astype(np.float32) - np.float32(made.zero_point)) * made.scale
    found = fake_rows(rows, torch.from_numpy(table).min(), torch.from_numpy(table).max())
    assert np.array_equal(found.numpy(), stored[[5, 0, 89, 5]])

    for wanted in (16, 32, 64):
        block = fitting_block(96, wanted)
        assert block == blocks.fitting_block(96, wanted)
        stored = blocks.dequantize_blocks(blocks.quantize_block_table(table, block))
        found = fake_block_rows(torch.from_numpy(table), block).numpy()
        same = (found == stored).reshape(90, -1, block).all(axis=-1)
        # Elsewhere two scales err alike, and the order of a sum decides.
        assert same.mean() > 0.99
        ours, theirs = np.square(found - table).sum(), np.square(stored - table).sum()
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_products_of_codes_are_those_of_integers():
    random = np.random.default_rng(1)
    values = random.standard_normal((7, 384)).astype(np.float32)
    weight = random.standard_normal((48, 384)).astype(np.float32)
    plan, ends = Qat(), torch.tensor([-2.5, 3.0])
    made = weights.quantize_linear(
        np.ascontiguousarray(weight.T), per_channel=True, reduce_range=False
    )
    scale, zero = weights.asymmetric(-2.5, 3.0)
    codes = np.clip(np.round(values / scale) + zero, 0, 255).astype(np.int32) - int(zero)
    expected = (codes @ made.values.astype(np.int32)).astype(np.float32) * (scale * made.scale)
    found = fake_linear(torch.from_numpy(values), torch.from_numpy(weight), None, ends, plan)
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize("signed", [False, True])
def test_the_gradient_of_a_range_is_the_slope_of_the_error(signed):
    """Moving an end as its gradient says brings the squared rounding error down."""
    torch.manual_seed(0)
    values = torch.randn(400_000) * 2
    values[0] = 60.0  # an outlier that the calibrated range holds
    ends = torch.tensor([float(values.min()), float(values.max())], requires_grad=True)

    def error() -> torch.Tensor:
        codes, scale = activation_codes(values, ends, signed)
        return (codes * scale - values).square().sum()

    first = error()
    for _ in range(60):
        ends.grad = None
        error().backward()
        with torch.no_grad():
            ends -= 0.02 * ends.abs() * ends.grad.sign()
    assert error().item() < 0.8 * first.item()
    assert ends[1].item() < 60


def test_gradients_pass_rounding_and_stop_where_it_clips():
    values = torch.tensor([-9.0, -0.5, 0.2, 9.0], requires_grad=True)
    codes, scale = activation_codes(values, torch.tensor([-1.0, 1.0]), False)
    (codes * scale).sum().backward()
    assert values.grad.tolist() == pytest.approx([0.0, 1.0, 1.0, 0.0])
    weight = torch.randn(3, 5, requires_grad=True)
    codes, scale = weight_codes(weight, Qat())
    (codes * scale).sum().backward()
    assert torch.allclose(weight.grad, torch.ones(3, 5))


def test_codes_are_exact_in_bfloat16():
    values = torch.linspace(-4, 4, 1000)
    codes, _ = activation_codes(values, torch.tensor([-4.0, 4.0]), False)
    assert torch.equal(codes.bfloat16().float(), codes)
    codes, _ = weight_codes(torch.randn(64, 64), Qat(weight="uint8", symmetric=False))
    assert torch.equal(codes.bfloat16().float(), codes)


def test_fields_say_what_cannot_be():
    with pytest.raises(ValueError, match="rounds nothing"):
        Qat(linears=False, embeddings=False)
    with pytest.raises(ValueError, match="set activations: false"):
        Qat(linears=False)
    with pytest.raises(ValueError, match="int8 weights are symmetric"):
        Qat(symmetric=False)
    plan = Qat(exclude=("bert.encoder.layer.1",), **{"from": 0.5})
    assert plan.leaves("bert.encoder.layer.1.output.dense")
    assert not plan.leaves("bert.encoder.layer.10.output.dense")
    assert plan.first(20) == 10
