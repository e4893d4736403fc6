"""GPTQ: products with inputs that were not seen change less than with rounding to nearest."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import edgecompress.quantization.write.gptq as gptq
from edgecompress.errors import StageError
from edgecompress.quantization.arithmetic.blocks import dequantize_blocks, quantize_blocks
from edgecompress.quantization.observe.channels import one_thread
from edgecompress.quantization.write.gptq import LinearWeight, hessians, passes, quantize_gptq


def inputs(count: int, seed: int, width: int = 64) -> np.ndarray:
    """Rows of few directions, as activations are, some channels loud."""
    mixing = np.random.default_rng(9).standard_normal((12, width))
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, 12)) @ mixing + 0.1 * random.standard_normal((1, width))
    rows[:, 5] *= 20
    return rows.astype(np.float32)


def error(blocks, weight, rows) -> float:
    return float(np.square(rows @ (dequantize_blocks(blocks) - weight).T).mean())


@pytest.mark.parametrize(("bits", "block"), [(4, 16), (4, 32), (8, 32)])
def test_it_is_nearer_on_inputs_that_it_has_not_seen(bits, block) -> None:
    weight = np.random.default_rng(1).standard_normal((40, 64)).astype(np.float32)
    hessian = hessians([{"x": inputs(50, seed)} for seed in range(6)])["x"]
    held_out = inputs(200, 77)
    made = quantize_gptq(weight, hessian, bits, block)
    search = quantize_blocks(weight, bits, block)
    assert made.packed.shape == search.packed.shape and made.scale.shape == search.scale.shape
    assert error(made, weight, held_out) < error(search, weight, held_out) / 2
    again = quantize_gptq(weight, hessian, bits, block)
    assert np.array_equal(made.packed, again.packed) and np.array_equal(made.scale, again.scale)


def test_updates_in_blocks_are_those_of_one_by_one(monkeypatch) -> None:
    weight = np.random.default_rng(1).standard_normal((8, 64)).astype(np.float32)
    hessian = hessians([{"x": inputs(300, 0)}])["x"]
    whole = dequantize_blocks(quantize_gptq(weight, hessian, 4, 16))
    monkeypatch.setattr(gptq, "LAZY", 5)
    monkeypatch.setattr(gptq, "CHUNK_VALUES", 3 * 64)
    parts = dequantize_blocks(quantize_gptq(weight, hessian, 4, 16))
    # A value at the edge between two codes may fall either way.
    assert np.mean(whole != parts) < 0.02


def test_inputs_that_do_not_depend_on_each_other_leave_rounding_as_it_is() -> None:
    weight = np.random.default_rng(1).standard_normal((8, 32)).astype(np.float32)
    made = quantize_gptq(weight, np.eye(32, dtype=np.float32), 4, 16)
    assert np.allclose(dequantize_blocks(made), dequantize_blocks(quantize_blocks(weight, 4, 16)))


def test_dead_and_dependent_inputs_are_no_trouble() -> None:
    rows = inputs(10, 0)
    rows[:, 7] = 0
    weight = np.random.default_rng(1).standard_normal((8, 64)).astype(np.float32)
    for sample in (rows, np.zeros_like(rows)):
        made = quantize_gptq(weight, hessians([{"x": sample}])["x"], 4, 16)
        assert np.isfinite(dequantize_blocks(made)).all()
        assert np.abs(dequantize_blocks(made) - weight).max() < 2
    with pytest.raises(StageError, match="NaN or infinite"):
        quantize_gptq(weight, np.full((64, 64), np.nan, np.float32), 4, 16)


def test_the_number_of_threads_changes_nothing() -> None:
    rows = inputs(3000, 0, 384)
    weight = np.random.default_rng(1).standard_normal((48, 384)).astype(np.float32)
    made = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"), one_thread():
            hessian = hessians([{"x": part} for part in np.split(rows, 30)])["x"]
            made.append((hessian, quantize_gptq(weight, hessian, 4, 32).packed))
    assert np.array_equal(made[0][0], made[1][0]) and np.array_equal(made[0][1], made[1][1])


def test_hessians_are_shared_out_among_passes(monkeypatch) -> None:
    weights = [
        LinearWeight("q", 64, False, ("a",)),
        LinearWeight("k", 64, False, ("a",)),
        LinearWeight("o", 64, False, ("b",)),
        LinearWeight("d", 128, False, ("c",)),
    ]
    names = [[w.name for w in share] for share in passes(weights)]
    assert names == [["q", "k", "o", "d"]]
    monkeypatch.setattr(gptq, "MOST_HESSIAN_BYTES", 2 * 4 * 64**2)
    names = [[w.name for w in share] for share in passes(weights)]
    assert names == [["q", "k", "o"], ["d"]]
