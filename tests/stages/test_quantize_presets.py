"""Presets of `quantize.dynamic` and `quantize.static`: what they set, and what wins over them."""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import pytest
from helpers import small_context, tagged_examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import numpy_helper
from pydantic import ValidationError
from small_encoders import relative_error, torch_logits, write_encoder

from edgecompress.models.session import input_specs, open_session
from edgecompress.quantization.arithmetic.weights import quantize_linear
from edgecompress.quantization.plan.presets import PRESETS, PresetName
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.static import Static

STAGES = (Dynamic, Static)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory):
    """A PyTorch model and its export."""
    folder = tmp_path_factory.mktemp("encoder")
    encoder = write_encoder(folder, "Bert", "token-classification", uneven=True)
    return encoder, Export().apply(encoder, small_context(folder / "export"))


def integers(candidate) -> dict[str, np.ndarray]:
    """Quantized weights of linear layers (``onnx::…``) by name."""
    graph = onnx.load(candidate.model.path).graph
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return {
        name: array
        for name, array in found.items()
        if name.endswith("_quantized") and "embedding" not in name
    }


@pytest.mark.parametrize("stage", STAGES)
def test_every_preset_sets_the_fields_and_keeps_them_in_a_round_trip(stage) -> None:
    assert set(PRESETS) == set(get_args(PresetName))
    for name, preset in PRESETS.items():
        made = stage(preset=name)
        for field in ("weight", "symmetric", "per_channel", "reduce_range"):
            assert getattr(made, field) == getattr(preset, field)
        assert stage.model_validate(made.model_dump(mode="json")) == made
    assert stage(preset="x86-avx2").reduce_range and not stage(preset="x86-vnni").reduce_range


@pytest.mark.parametrize("stage", STAGES)
def test_without_a_preset_nothing_changes(stage) -> None:
    made = stage()
    assert made.preset is None and made.weight == "int8" and made.symmetric
    assert made.per_channel and not made.reduce_range


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_set_wins(stage) -> None:
    made = stage(preset="x86-avx2", reduce_range=False, per_channel=False)
    assert not made.reduce_range and not made.per_channel
    made = stage(preset="arm-dotprod", weight="uint8", symmetric=False)
    assert made.weight == "uint8" and not made.symmetric
    assert not stage(preset="portable", per_channel=False).per_channel
    assert stage(preset="portable", reduce_range=True) == stage(preset="portable")


@pytest.mark.parametrize("stage", STAGES)
def test_what_would_break_a_promise_is_refused(stage) -> None:
    with pytest.raises(ValidationError, match="because reduce_range is true; leave reduce_range"):
        stage(preset="portable", reduce_range=False)
    with pytest.raises(ValidationError, match="because weight is int8; leave weight out"):
        stage(preset="portable", weight="uint8")
    with pytest.raises(ValidationError, match="set weight: uint8, or leave symmetric out"):
        stage(symmetric=False)
    with pytest.raises(ValidationError, match="'x86-vnni', 'x86-avx2'"):
        stage(preset="x86-avx")
    with pytest.raises(ValidationError, match="because activation is uint8"):
        Static(preset="portable", activation="int8")


@pytest.mark.parametrize("stage", STAGES)
def test_the_step_records_preset_and_types_and_the_file_has_them(pair, tmp_path, stage) -> None:
    _, exported = pair
    sizes = {"samples": 8} if stage is Static else {}
    for name, weight, bits, most in (
        ("x86-vnni", {}, 8, 127),
        ("portable", {}, 7, 64),
        ("x86-vnni", {"weight": "uint8", "symmetric": False}, 8, 255),
    ):
        made = stage(preset=name, **weight, **sizes)
        context = small_context(tmp_path / f"{name}{len(weight)}", train=tagged_examples(12))
        found = check_stage(made, exported, context)
        decisions = found.steps[-1].decisions
        assert decisions["preset"] == name and decisions["exceptions"] == {}
        assert decisions["types"] == {
            "weight": weight.get("weight", "int8"),
            "weight_bits": bits,
            "weight_symmetric": not weight,
            "activation": "uint8",
            "activation_symmetric": False,
            "per_channel": True,
        }
        arrays = integers(found)
        assert arrays and {array.dtype.name for array in arrays.values()} == {made.weight}
        assert max(array.max() for array in arrays.values()) == most


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "fields",
    [{"preset": "portable"}, {"weight": "uint8"}, {"weight": "uint8", "symmetric": False}],
    ids=str,
)
def test_answers_stay_close_to_fp32(pair, tmp_path, stage, fields) -> None:
    encoder, exported = pair
    made = stage(**fields).apply(exported, small_context(tmp_path, train=tagged_examples(40)))
    session = open_session(made.model)
    names = tuple(spec.name for spec in input_specs(session))
    expected, feeds = torch_logits(encoder, tagged_examples(20, seed=3), names)
    assert relative_error(expected, [session.run(None, feed)[0] for feed in feeds]) < 0.1


@settings(max_examples=200, deadline=None)
@given(
    weight=arrays(
        np.float32,
        st.tuples(st.integers(2, 9), st.integers(1, 4)),
        elements=st.floats(-(2.0**99), 2.0**99, width=32),
    ),
    reduce_range=st.booleans(),
    per_channel=st.booleans(),
)
def test_no_two_products_leave_16_bits(weight, reduce_range, per_channel) -> None:
    """Inputs of 0 to 255 for x86 without VNNI, of -128 to 127 for Arm without dot product."""
    found = quantize_linear(weight, per_channel=per_channel, reduce_range=reduce_range)
    values = found.values.astype(int)
    inputs = (0, 255) if reduce_range else (-128, 127)
    for first in inputs:
        for second in inputs:
            sums = first * values[:-1] + second * values[1:]
            assert sums.min() >= -(2**15) and sums.max() < 2**15
