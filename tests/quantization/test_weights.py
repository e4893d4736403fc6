"""Quantized weights are the same bits as those of ONNX Runtime's quantizer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto
from onnxruntime.quantization.quant_utils import quantize_data

from edgecompress.quantization.arithmetic import weights
from edgecompress.quantization.arithmetic.weights import (
    asymmetric,
    quantize_linear,
    quantize_table,
    symmetric,
)

matrices = arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 5)),
    elements=st.floats(-100, 100, width=32),
)


@settings(max_examples=200, deadline=None)
@given(weight=matrices, reduce_range=st.booleans(), unsigned=st.booleans(), symmetric=st.booleans())
def test_per_channel_matches_onnxruntime(
    weight: np.ndarray, reduce_range: bool, unsigned: bool, symmetric: bool
) -> None:
    found = quantize_linear(
        weight,
        per_channel=True,
        reduce_range=reduce_range,
        unsigned=unsigned,
        symmetric=symmetric,
    )
    dtype = TensorProto.UINT8 if unsigned else TensorProto.INT8
    for column in range(weight.shape[1]):
        zero, scale, values = quantize_data(
            weight[:, column], dtype, symmetric=symmetric, reduce_range=reduce_range
        )
        assert np.array_equal(found.values[:, column], values)
        assert found.values.dtype == found.zero_point.dtype == values.dtype
        assert found.scale[column] == scale
        assert found.zero_point[column] == zero


@settings(max_examples=100, deadline=None)
@given(weight=matrices)
def test_whole_tensors_match_onnxruntime(weight: np.ndarray) -> None:
    for found, dtype, even in (
        (quantize_linear(weight, per_channel=False, reduce_range=False), TensorProto.INT8, True),
        (quantize_table(weight), TensorProto.UINT8, False),
    ):
        zero, scale, values = quantize_data(weight.ravel(), dtype, symmetric=even)
        assert np.array_equal(found.values.ravel(), values)
        assert found.scale == scale and found.scale.shape == ()
        assert found.zero_point == zero and found.zero_point.dtype == values.dtype


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    whole = quantize_linear(weight, per_channel=True, reduce_range=False)
    monkeypatch.setattr(weights, "CHUNK_VALUES", 24)
    parts = quantize_linear(weight, per_channel=True, reduce_range=False)
    assert np.array_equal(whole.values, parts.values)


def test_ranges_hold_zero() -> None:
    scale, zero = asymmetric(1.0, 5.0)
    assert zero == 0 and scale == np.float32(5 / 255)
    scale, zero = asymmetric(-1.0, 3.0)
    assert abs(float(scale) * (0 - int(zero)) + 1.0) < float(scale)
    assert asymmetric(0.0, 0.0)[0] == 1.0
    assert symmetric(-2.0, 1.0) == (np.float32(2 / 127), 0)
