"""Quantize one weight with the arithmetic of ONNX Runtime's quantizer, vectorised.

Results are the same bits as those of `onnxruntime.quantization` 1.31 (`quant_utils.quantize_data`
and `compute_scale_zp`); a test holds them together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]

# Rows of a table that are quantized at a time: temporaries stay small beside the weight.
CHUNK_VALUES = 1 << 20
# Lowest and highest integer by (unsigned, symmetric, reduced), as `get_qmin_qmax_for_qType` has it.
LEVELS = {
    (False, True, False): (-127, 127),
    (False, False, False): (-128, 127),
    (False, True, True): (-64, 64),
    (False, False, True): (-64, 64),
    (True, True, False): (0, 255),
    (True, False, False): (0, 255),
    (True, True, True): (0, 127),
    (True, False, True): (0, 127),
}


@dataclass(frozen=True, slots=True)
class Quantized:
    """Integers with the scale and zero point that give the real values back.

    Attributes
    ----------
    values : ndarray, int8 or uint8
        Shape of the weight.
    scale : ndarray, float32
        Shape () or (columns,).
    zero_point : ndarray, dtype of `values`
        Shape of `scale`.
    """

    values: Array
    scale: Array
    zero_point: Array

    def tensors(self, name: str) -> tuple[TensorProto, TensorProto, TensorProto]:
        """Give the three initializers under the names that ONNX Runtime's quantizer uses."""
        return (
            array_tensor(self.values, f"{name}_quantized"),
            array_tensor(self.scale, f"{name}_scale"),
            array_tensor(self.zero_point, f"{name}_zero_point"),
        )


def array_tensor(values: Array, name: str) -> TensorProto:
    """Make an initializer of a NumPy array, its data in raw form."""
    dtype = helper.np_dtype_to_tensor_dtype(values.dtype)
    made = TensorProto(name=name, data_type=dtype, dims=values.shape)
    made.raw_data = values.tobytes()
    return made


def scalar(value: Any, name: str) -> TensorProto:
    """Make an initializer of shape () from a NumPy value."""
    return numpy_helper.from_array(np.asarray(value), name)


def quantize_linear(
    weight: Array,
    *,
    per_channel: bool,
    reduce_range: bool,
    unsigned: bool = False,
    symmetric: bool = True,
) -> Quantized:
    """Quantize the weight of a linear layer to 8-bit integers.

    Parameters
    ----------
    weight : ndarray, float32, shape (inputs, outputs)
    per_channel : bool
        One scale for each output.
    reduce_range : bool
        Use 7 bits, int8 in [-64, 64] or uint8 in [0, 127]: two products of such a weight with an
        8-bit activation fit into 16 bits, where the kernels of x86 without VNNI add them.
    unsigned : bool
        uint8 instead of int8.
    symmetric : bool
        The zero point is the middle (0, or 128) and the scale covers the largest absolute value;
        else scale and zero point cover the lowest and the highest.
    """
    axis = 0 if per_channel else None
    low = np.minimum(weight.min(axis=axis), np.float32(0)).astype(np.float64)
    high = np.maximum(weight.max(axis=axis), np.float32(0)).astype(np.float64)
    if symmetric:
        high = np.maximum(-low, high)
        low = -high
    least, most = LEVELS[unsigned, symmetric, reduce_range]
    wide = np.asarray((high - low) / float(most - least))
    empty = wide < np.finfo(np.float32).tiny
    middle = np.round((least + most) / 2) if symmetric else np.round(least - low / _ones(wide))
    dtype = np.uint8 if unsigned else np.int8
    zero_point = np.asarray(np.where(empty, 0, middle), dtype)
    scale = np.where(empty, 1.0, wide).astype(np.float32)
    bounds, values = np.iinfo(dtype), np.empty(weight.shape, dtype)
    for rows in chunks(weight):
        shifted = (weight[rows] / scale).round() + zero_point
        values[rows] = np.clip(shifted, bounds.min, bounds.max)
    return Quantized(values, scale, zero_point)


def _ones(scale: Array) -> Array:
    """Put 1 for what is too small to divide by."""
    return np.where(scale < np.finfo(np.float32).tiny, 1.0, scale)


def quantize_recurrent(weight: Array, *, per_channel: bool, reduce_range: bool) -> Quantized:
    """Quantize a weight of an LSTM, as ``com.microsoft.DynamicQuantizeLSTM`` reads it.

    Parameters
    ----------
    weight : ndarray, float32, shape (directions, outputs, inputs)
    per_channel, reduce_range : bool
        As of `quantize_linear`.

    Returns
    -------
    Quantized
        int8, shape (directions, inputs, outputs); scales of shape (directions, outputs), or
        (directions,).
    """
    ways = [
        quantize_linear(
            np.ascontiguousarray(way.T), per_channel=per_channel, reduce_range=reduce_range
        )
        for way in weight
    ]
    return Quantized(
        np.stack([way.values for way in ways]),
        np.stack([way.scale for way in ways]),
        np.stack([way.zero_point for way in ways]),
    )


def quantize_table(table: Array) -> Quantized:
    """Quantize an embedding (or any tensor that is looked up) to uint8, one scale for all.

    Parameters
    ----------
    table : ndarray, float32, shape (rows, width)
    """
    scale, zero_point = asymmetric(table.min(), table.max())
    values = np.empty(table.shape, np.uint8)
    for rows in chunks(table):
        values[rows] = np.clip((table[rows] / scale).round() + zero_point, 0, 255)
    return Quantized(values, scale, zero_point)


def quantize_rows(table: Array) -> Quantized:
    """Quantize an embedding to int8, symmetrically, with a scale for each row.

    Parameters
    ----------
    table : ndarray, float32, shape (rows, width)
    """
    turned = quantize_linear(np.ascontiguousarray(table.T), per_channel=True, reduce_range=False)
    return Quantized(np.ascontiguousarray(turned.values.T), turned.scale, turned.zero_point)


def dequantize(made: Quantized, axis: int = -1) -> Array:
    """Give back the real values, float32; `axis` is that of the scales where there are several."""
    shape = [1] * made.values.ndim
    if made.scale.ndim:
        shape[axis] = -1
    values = made.values.astype(np.float32)
    values -= made.zero_point.astype(np.float32).reshape(shape)
    values *= made.scale.reshape(shape)
    return values


def asymmetric(low: Any, high: Any) -> tuple[Array, Array]:
    """Scale (float32) and zero point (uint8) that cover [low, high] and zero.

    Source: `onnxruntime.quantization.quant_utils.compute_scale_zp`.
    """
    low = np.minimum(np.float32(low), np.float32(0))
    high = np.maximum(np.float32(high), np.float32(0))
    scale = (np.float64(high) - np.float64(low)) / np.float64(255)
    if scale < np.finfo(np.float32).tiny:
        return np.array(1.0, np.float32), np.array(0, np.uint8)
    zero_point = np.round(0 - low / scale)
    return np.array(scale, np.float32), np.array(zero_point, np.uint8)


def symmetric(low: Any, high: Any) -> tuple[Array, Array]:
    """Scale (float32) and zero point 0 (int8) that cover [-m, m], the larger of both ends."""
    most = np.float64(max(abs(np.float32(low)), abs(np.float32(high))))
    scale = (most + most) / 254.0
    if scale < np.finfo(np.float32).tiny:
        return np.array(1.0, np.float32), np.array(0, np.int8)
    return np.array(scale, np.float32), np.array(0, np.int8)


def chunks(weight: Array) -> Iterator[slice]:
    """Cut the first axis so that each part has about `CHUNK_VALUES` values."""
    step = max(1, CHUNK_VALUES // max(1, int(np.prod(weight.shape[1:]))))
    for start in range(0, len(weight), step):
        yield slice(start, start + step)
