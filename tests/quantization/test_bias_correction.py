"""What rounding the weights takes from the mean of a convolution's answers, its bias gives back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers import small_context
from onnx import TensorProto, helper, numpy_helper

from edgecompress.errors import StageError
from edgecompress.models.session import open_session
from edgecompress.quantization.plan.quant_plan import Correction, QuantPlan
from edgecompress.stage import Decisions, check_stage
from edgecompress.stages.quantize.static import Static
from edgecompress.values import Candidate, OnnxModel

make = helper.make_node
SAMPLES = 24


def write_graph(file: Path, *, biased: bool) -> Path:
    """Write a convolution in two groups, and one for each channel, whose inputs are not centred."""
    random = np.random.default_rng(2)
    spread = np.exp2(random.uniform(-6, 0, (8, 1, 1, 1)))
    weights = {
        "wide": (random.uniform(0.1, 1, (8, 2, 1, 1)) * spread).astype(np.float32),
        "deep": random.normal(size=(8, 1, 3)).reshape(8, 1, 1, 3).astype(np.float32),
    }
    weights |= {"bias": random.uniform(0, 1, 8).astype(np.float32)} if biased else {}
    own = ["bias"] if biased else []
    nodes = [
        make("Conv", ["pixels", "wide", *own], ["a"], "grouped", group=2),
        make("Relu", ["a"], ["b"], "rectified"),
        make("Conv", ["b", "deep", *own], ["scores"], "depthwise", group=8),
    ]
    shape = ["batch", 4, 5, 12]
    graph = helper.make_graph(
        nodes,
        "moved",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file
    )
    return file


def candidate(folder: Path, *, biased: bool = True) -> tuple[Candidate, Path, np.ndarray]:
    """Give a model, its samples in a file, and the samples."""
    pixels = np.random.default_rng(3).gamma(2.0, 1.0, (SAMPLES, 4, 5, 12)).astype(np.float32)
    np.save(folder / "pixels.npy", pixels)
    graph = write_graph(folder / "model.onnx", biased=biased)
    return Candidate(OnnxModel(graph)), folder / "pixels.npy", pixels


def moved(made: Candidate, source: Candidate, pixels: np.ndarray) -> Any:
    """Give by how much the mean of each channel lies beside fp32's, and the spread of fp32's."""
    answers = [open_session(one.model).run(None, {"pixels": pixels})[0] for one in (made, source)]
    return np.abs((answers[0] - answers[1]).mean(axis=(0, 2, 3))), answers[1].std(axis=(0, 2, 3))


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_means_are_given_back(tmp_path: Path, biased: bool, per_channel: bool) -> None:
    source, file, pixels = candidate(tmp_path, biased=biased)
    fields = {"inputs": str(file), "per_channel": per_channel}
    found = {}
    for wanted in (False, True):
        context = small_context(tmp_path / str(wanted))
        made = check_stage(Static(**fields, bias_correction=wanted), source, context)
        found[wanted], spread = moved(made, source, pixels)
        plan = made.steps[-1].decisions["plan"]
        assert ("corrections" in plan) is wanted
    # With one scale for all, what is small beside the largest channel loses most.
    worst = 0.05 if per_channel else 0.6
    assert found[True].max() < 0.35 * found[False].max()
    assert (found[True] < worst * found[False].max() + 0.01 * spread).all()


def test_a_record_gives_the_same_bytes_and_a_wrong_one_is_not_followed(tmp_path: Path) -> None:
    source, file, _ = candidate(tmp_path)
    stage = Static(inputs=str(file))
    made = stage.apply(source, small_context(tmp_path / "a"))
    record = json.loads(json.dumps(made.steps[-1].decisions))
    again = stage.make(source, Decisions(record), small_context(tmp_path / "b"))
    assert again.model.path.read_bytes() == made.model.path.read_bytes()
    corrections = record["plan"]["corrections"]
    assert set(corrections) == {"grouped", "depthwise"}
    corrections["grouped"][1] = corrections["grouped"][1][:4]
    other = stage.make(source, Decisions(record), small_context(tmp_path / "c"))
    assert other.model.path.read_bytes() == made.model.path.read_bytes()  # planned anew
    for wrong in (["x", ""], [1.0, "*"], [float("inf"), ""], 3):
        record["plan"]["corrections"] = {"grouped": wrong}
        with pytest.raises(StageError, match="no plan of a quantized graph"):
            QuantPlan.from_json(record["plan"], record["ranges"])


def test_corrections_travel_in_json_and_of_two_plans() -> None:
    one = QuantPlan({}, corrections={"a": Correction(0.5, np.array([-127, 3], np.int8))})
    other = replace(one, corrections={"b": Correction(2.0, np.array([1], np.int8))})
    both = QuantPlan.from_json(json.loads(json.dumps(one.joined(other).to_json())))
    assert {name: each.values.tolist() for name, each in both.corrections.items()} == {
        "a": [-63.5, 1.5],
        "b": [2.0],
    }


def test_what_is_not_finite_is_left_to_others(tmp_path: Path) -> None:
    """A convolution that reads such a tensor stays in fp32; the others are corrected."""
    from edgecompress.models.storage import read_model
    from edgecompress.quantization.observe.feature_maps import collect_maps
    from edgecompress.quantization.observe.observing import observing
    from edgecompress.quantization.plan.planning import plan_of, ready
    from edgecompress.quantization.plan.scheme import Scheme
    from edgecompress.quantization.write.bias_correction import bias_corrections

    source, _, pixels = candidate(tmp_path)
    pixels[3] = 3e38  # finite itself; its sums are not
    model = onnx.load(source.model.path)
    wide = next(one for one in model.graph.initializer if one.name == "wide")
    wide.CopyFrom(numpy_helper.from_array(10 * numpy_helper.to_array(wide), "wide"))
    onnx.save(model, source.model.path)
    names = ["pixels", "b"]
    with observing(OnnxModel(source.model.path), names, tmp_path / "observed") as copy:
        seen = collect_maps(copy, names, ({"pixels": one[None]} for one in pixels))
    assert set(seen) == {"pixels"}
    ranges = {"pixels": (0.0, 10.0), "b": (0.0, 10.0), "scores": (-10.0, 10.0)}
    stored = ready(read_model(source.model.path), static=True)
    plan = plan_of(stored, Scheme(ranges=ranges))
    means = {name: one.mean for name, one in seen.items()}
    assert set(bias_corrections(stored, plan, means)) == {"grouped"}
