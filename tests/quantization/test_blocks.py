"""Block quantization: what is packed is what the kernels read, and searching lowers the error."""

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgecompress.quantization.arithmetic.blocks import (
    dequantize_blocks,
    fitting_block,
    quantize_block_table,
    quantize_blocks,
)
from edgecompress.quantization.arithmetic.lines import quantize_lines


def weight(rows, width, seed=0):
    return np.random.default_rng(seed).standard_t(3, (rows, width)).astype(np.float32)


def session(node, given, ids, out):
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", ids, ["n", *out])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [16, 64])
def test_rows_that_are_looked_up_are_the_dequantized_ones(bits, block):
    made = quantize_blocks(weight(50, 192), bits, block)
    given = {"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
    node = helper.make_node(
        "GatherBlockQuantized", ["w", "x", "s"], ["y"], domain="com.microsoft", **given
    )
    run = session(node, {"w": made.packed, "s": made.scale}, TensorProto.INT64, [])
    ids = np.array([0, 49, 7])
    np.testing.assert_array_equal(run.run(None, {"x": ids})[0], dequantize_blocks(made)[ids])


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-6, 1e5])
@pytest.mark.parametrize("block", [16, 32, 64])
def test_rows_of_a_table_are_those_of_the_kernel_to_the_bit(block, size):
    """Scales of 16 bits where they can be told apart, and of 32 bits for extreme values."""
    rows = weight(50, 192) * np.float32(size)
    made = quantize_block_table(rows, block)
    assert (made.scale.dtype == np.float16) == (size in {1.0, 1e-3})
    assert (made.scale < 0).any() and (made.scale > 0).any()
    given = {"bits": 4, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
    node = helper.make_node(
        "GatherBlockQuantized", ["w", "x", "s"], ["y"], domain="com.microsoft", **given
    )
    scale = made.scale.astype(np.float32)
    run = session(node, {"w": made.packed, "s": scale}, TensorProto.INT64, [])
    ids = np.array([0, 49, 7])
    np.testing.assert_array_equal(run.run(None, {"x": ids})[0], dequantize_blocks(made)[ids])


def test_a_table_loses_less_in_the_same_bytes():
    """Half as long blocks with half as long scales, against one sign and 32 bits."""
    rows = np.random.default_rng(0).normal(0, 0.02, (500, 384)).astype(np.float32)
    before, after = quantize_blocks(rows, 4, 64), quantize_block_table(rows, 32)
    assert before.scale.nbytes == after.scale.nbytes
    errors = [np.square(dequantize_blocks(made) - rows).mean() for made in (before, after)]
    assert errors[1] < 0.75 * errors[0]


@pytest.mark.parametrize("bits", [4, 8])
def test_products_are_those_of_the_dequantized_weight(bits):
    rows = weight(48, 128)
    made = quantize_blocks(rows, bits, 32)
    given = {"K": 128, "N": 48, "bits": bits, "block_size": 32}
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **given)
    packed = made.packed.reshape(48, 4, 32 * bits // 8)
    run = session(node, {"w": packed, "s": made.scale.ravel()}, TensorProto.FLOAT, [128])
    x = weight(5, 128, seed=1)
    expected = x @ dequantize_blocks(made).T
    np.testing.assert_allclose(run.run(None, {"x": x})[0], expected, rtol=1e-4, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([16, 32, 64]), st.floats(1e-6, 1e6))
def test_searching_is_never_worse_and_8_bits_are_better_than_4(seed, block, scale):
    rows = weight(7, 128, seed) * np.float32(scale)

    def error(bits, search):
        found = dequantize_blocks(quantize_blocks(rows, bits, block, search=search))
        return float(np.square(found.astype(np.float64) - rows).sum())

    assert error(4, True) <= error(4, False) * 1.000001
    assert error(8, True) < error(4, True)


def test_offsets_hold_blocks_that_do_not_lie_around_0():
    rows = weight(40, 128, seed=2)

    def error(made):
        return np.square(dequantize_blocks(made) - rows).mean()

    assert error(quantize_lines(rows, 4, 32)) < 0.85 * error(quantize_blocks(rows, 4, 32))
    for bits in (4, 8):  # scales of 8 bits alone cost little
        made = quantize_lines(rows, bits, 32, offsets=False)
        assert error(made) < 1.1 * error(quantize_blocks(rows, bits, 32))
    # Codes of 4 bits on a line, as other programs store them, are kept but for the line's 8 bits.
    random = np.random.default_rng(3)
    codes = random.integers(0, 16, (40, 4, 32))
    codes[..., 0], codes[..., 1] = 0, 15
    scale = random.uniform(0.01, 0.05, (40, 4, 1))
    stored = (scale * (codes - random.uniform(3, 12, (40, 4, 1)))).reshape(40, 128)
    stored = stored.astype(np.float16).astype(np.float32)
    made = quantize_lines(stored, 4, 32)
    assert (
        np.sqrt(np.square(dequantize_blocks(made) - stored).mean() / np.square(stored).mean())
        < 0.01
    )
    assert made.eight is not None and made.eight.codes.dtype == np.uint8


def test_rows_of_zeros_stay_zero():
    zeros = np.zeros((3, 32), np.float32)
    assert not dequantize_blocks(quantize_blocks(zeros, 4, 32)).any()
    assert not dequantize_blocks(quantize_lines(zeros, 4, 32)).any()
    mixed = np.concatenate([zeros[:1], weight(2, 32)])
    for offsets in (False, True):
        found = dequantize_blocks(quantize_lines(mixed, 4, 32, offsets=offsets))
        assert not found[0].any() and np.abs(found - mixed).max() < 0.5
    zeros[0] = 1.0
    for table in (zeros, zeros[1:]):
        assert not dequantize_blocks(quantize_block_table(table, 32))[-2:].any()


def test_the_largest_block_that_divides_the_width():
    assert fitting_block(384, 128) == 128
    assert fitting_block(96, 64) == 32
    assert fitting_block(40, 128) is None
