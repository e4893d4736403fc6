"""Depth and width are cut together: by name, or by the times that layers take."""

import itertools
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from helpers import labelled_texts, only_layers, small_context, tagged_examples, tiny_teacher
from pydantic import ValidationError
from small_encoders import write_encoder
from weighed import Weighed

from edgecompress.errors import DataError, StageError
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.prune.shape import Shape
from edgecompress.surgery.families import blocks
from edgecompress.surgery.hidden import hidden_size, keep_hidden
from edgecompress.surgery.model import load_module
from edgecompress.targets.shape_table import Width, spread
from edgecompress.telling import in_words
from edgecompress.training.encoding import make_rows
from edgecompress.training.importance import Importance
from edgecompress.training.importance.effect import answered
from edgecompress.training.shape_search import Allowed, Moves, fastest, shapes_within
from edgecompress.training.structure import sizes

TRAIN = tagged_examples(40, 1)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return tiny_teacher(tmp_path_factory.mktemp("new"), TRAIN, "token-classification")


def test_a_named_shape(teacher, tmp_path):
    stage = Shape(layers=2, hidden=20, heads=3, neurons=24, samples=20)
    result = check_stage(stage, teacher, small_context(tmp_path, train=TRAIN))
    module, step = load_module(result.model), result.steps[-1]
    assert sizes(module) == ([3, 3], [24, 24])
    assert hidden_size(module) == 20
    assert len(step.decisions["layers"]) == 2
    assert len(step.measured["reconstruction"]) == 2
    told = in_words(replace(step, stage="prune.shape"))
    assert told.startswith("Removed 1 of 3 layers (")
    assert "2 of 8 attention heads (6 left, by layer 3 + 3)" in told
    assert "12 of 32 hidden channels (20 left)" in told
    exported = Export().apply(result, small_context(tmp_path / "onnx", validation=TRAIN[:8]))
    assert exported.steps[-1].decisions["parity"]["max_abs_difference"] < 1e-4


def test_relu_takes_the_place_of_gelu_and_is_fitted_for(teacher, tmp_path):
    """It stands in what is saved and exported, and the fit knows of it."""
    far = {}
    for fit in (False, True):
        stage = Shape(layers=3, heads=4, activation="relu", samples=40, reconstruct=fit)
        context = small_context(tmp_path / str(fit), train=TRAIN)
        result = check_stage(stage, teacher, context)
        module = load_module(result.model)
        assert module.config.hidden_act == "relu"
        acts = [layer.intermediate.intermediate_act_fn for layer in module.bert.encoder.layer]
        assert [type(act).__name__ for act in acts] == ["ReLU"] * 3
        before = load_module(teacher.model)
        far[fit] = Moves(before, make_rows(teacher, TRAIN, before)).of(module)
    assert 0 < far[True] < far[False]
    exported = Export().apply(result, small_context(tmp_path / "onnx", validation=TRAIN[:8]))
    ops = {node.op_type for node in onnx.load(exported.model.path).graph.node}
    assert "Relu" in ops
    assert "Erf" not in ops


def test_relu_for_a_gated_part_is_refused(tmp_path):
    gated = write_encoder(tmp_path / "new", "ModernBert", "token-classification")
    stage = Shape(layers=1, activation="relu", samples=20)
    with pytest.raises(StageError, match="are gated"):
        stage.apply(gated, small_context(tmp_path, train=TRAIN))


def test_parts_that_are_not_named_stay(teacher, tmp_path):
    stage = Shape(layers=1, samples=20, reconstruct=False)
    result = stage.apply(teacher, small_context(tmp_path, train=TRAIN))
    module = load_module(result.model)
    assert sizes(module) == ([4], [64])
    assert hidden_size(module) == 32
    (kept,) = result.steps[-1].decisions["layers"]
    ours = next(blocks(module)).part("ffn_in").weight
    theirs = [*blocks(load_module(teacher.model))][kept].part("ffn_in").weight
    assert ours.equal(theirs)


def test_a_speed_is_kept_and_the_shape_replayed(teacher, tmp_path):
    stage = Shape(speedup=4, deployed="fp32", multiple_of=8, samples=20)
    machine = Weighed()
    context = small_context(tmp_path, train=TRAIN, targets={"local": machine})
    result = check_stage(stage, teacher, context)
    step = result.steps[-1]
    table = step.measured["table"]
    assert [*table["widths"]] == ["8", "16", "24", "32"]
    decided = step.decisions
    tried = step.measured["tried"]
    best = min(tried, key=lambda shape: shape["moved"])
    assert [best["layers"], best["hidden"], best["neurons"]] == [
        decided["layers"], decided["hidden"], decided["neurons"]
    ]  # fmt: skip
    assert len({shape["hidden"] for shape in tried}) > 1
    told = table["widths"][str(decided["hidden"])]
    parts = [{int(count): time for count, time in told[of].items()} for of in ("heads", "neurons")]
    width = Width(told["frame"], *parts)
    heads = [len(kept) for kept in decided["heads"]]
    each = itertools.starmap(width.layer, zip(heads, decided["neurons"], strict=True))
    taken = width.frame + sum(each)
    told = in_words(replace(step, stage="prune.shape"))
    assert ("times that decided this are not valid" in told) == bool(table["invalid"])
    disturbed = {**step.measured, "table": {**table, "invalid": "other load"}}
    told = in_words(replace(step, stage="prune.shape", measured=disturbed))
    assert told.endswith("The times that decided this are not valid (other load): make it again.")
    assert step.measured["latency"] == pytest.approx(taken, abs=1e-4)
    assert table["before"] / 5 < taken <= table["before"] / 4
    module = load_module(result.model)
    assert sizes(module) == (heads, decided["neurons"])
    assert hidden_size(module) == decided["hidden"]
    if not table["invalid"]:  # of the second time nothing is measured
        graphs = len(machine.timed)
        again = replace(context, folder=tmp_path / "again")
        again.folder.mkdir()
        stage.apply(teacher, again)
        assert len(machine.timed) == graphs


def test_what_is_named_holds_while_times_decide_the_rest(teacher, tmp_path):
    stage = Shape(
        speedup=3, layers=2, hidden=24, deployed="fp32", multiple_of=8, samples=20,
        reconstruct=False,
    )  # fmt: skip
    context = small_context(tmp_path, train=TRAIN, targets={"local": Weighed()})
    module = load_module(stage.apply(teacher, context).model)
    assert len(sizes(module)[0]) == 2
    assert hidden_size(module) == 24


def test_a_speed_that_cannot_be_met_says_what_can(teacher, tmp_path):
    context = small_context(tmp_path, train=TRAIN, targets={"local": Weighed()})
    fields = {"deployed": "fp32", "multiple_of": 16, "samples": 20, "reconstruct": False}
    with pytest.raises(StageError, match=r"speedup: 900 cannot be met on local; .* is [\d.]+ t"):
        Shape(speedup=900, **fields).apply(teacher, context)
    with pytest.raises(StageError, match=r"latency: 1e-06 ms cannot .* takes [\d.]+ ms"):
        Shape(latency=1e-6, **fields).apply(teacher, context)


def test_what_the_model_has_not(teacher, tmp_path):
    context = small_context(tmp_path, train=TRAIN)
    for fields, told in (
        ({"layers": 4}, "layers is 4, but the model has only 3"),
        ({"hidden": 64}, "hidden is 64, but the model has only 32"),
        ({"heads": 5}, "heads is 5, but the model has only 4 in every layer"),
        ({"neurons": 65}, "neurons is 65, but the model has only 64 in every layer"),
    ):
        with pytest.raises(StageError, match=told):
            Shape(**fields).apply(teacher, context)
    stage = Shape(layers=1, samples=20)
    for record in ({}, {"layers": [0, 3], "hidden": 8, "heads": [[0], [0]], "neurons": [8, 8]}):
        with pytest.raises(StageError, match="no record of a shape of this model"):
            stage.apply(teacher, small_context(tmp_path / str(len(record)), train=TRAIN), record)


def test_shared_layers_cannot_go(tmp_path):
    albert = write_encoder(tmp_path / "new", "Albert", "token-classification")
    with pytest.raises(StageError, match=r"share their weights.*use prune\.structured"):
        Shape(layers=1).apply(albert, small_context(tmp_path, train=TRAIN))


def test_wrong_fields_are_refused():
    for wrong in ({}, {"speedup": 1}, {"speedup": 3, "latency": 2}, {"layers": 0}, {"on": "pi4"}):
        with pytest.raises(ValidationError):
            Shape(**wrong)
    with pytest.raises(DataError, match="is not timed by its shape"):
        Shape(speedup=3).check_task("text-generation")
    Shape(layers=3).check_task("text-generation")


@pytest.mark.parametrize("depths", [[(0, 2)], [(0, 1, 2), (1, 2), (2,)]])
def test_the_search_finds_the_best_of_each_depth_and_width(depths):
    """Against all shapes, one by one."""
    random = np.random.default_rng(3)
    scores = Importance(
        [random.random(2) * scale for scale in (1, 3, 2)],
        [random.random(3) * scale for scale in (2, 1, 3)],
    )
    allowed = Allowed(depths, [2, 4], [[1, 2]] * 3, [[1, 2, 3]] * 3)
    widths = {
        hidden: Width(0.1 * hidden, {1: 0.2 * hidden, 2: 0.3 * hidden}, {1: 0.0, 3: 0.2 * hidden})
        for hidden in allowed.hidden
    }
    frames = {hidden: width.frame for hidden, width in widths.items()}
    times = {hidden: width.layer for hidden, width in widths.items()}

    def measured(hidden, layers, sizes):
        taken, gone = frames[hidden], 0.0
        for place, (heads, neurons) in zip(layers, sizes, strict=True):
            taken += times[hidden](heads, neurons)
            gone += np.sort(scores.heads[place])[: 2 - heads].sum()
            gone += np.sort(scores.neurons[place])[: 3 - neurons].sum()
        return taken, gone

    options = [*itertools.product([1, 2], [1, 2, 3])]
    every = {
        (hidden, layers): {
            sizes: measured(hidden, layers, sizes)
            for sizes in itertools.product(options, repeat=len(layers))
        }
        for hidden in allowed.hidden
        for layers in depths
    }
    least = min(time for shapes in every.values() for time, _ in shapes.values())
    assert fastest(allowed, frames, times) == pytest.approx(least)
    assert shapes_within(scores, allowed, frames, times, 0.99 * least) == []
    for bound in (1.0137 * least, 1.4137 * least, 1.9337 * least, 2.7137 * least, 9.0):
        found = shapes_within(scores, allowed, frames, times, bound)
        assert len(found) == len(set(found))
        fitting = {
            key: {sizes: gone for sizes, (time, gone) in shapes.items() if time <= bound}
            for key, shapes in every.items()
        }
        assert {(each.hidden, each.layers) for each in found} == {
            key for key, shapes in fitting.items() if shapes
        }
        lost = {}
        for each in found:
            sizes = (*zip(each.heads, each.neurons, strict=True),)
            lost.setdefault((each.hidden, each.layers), {})[sizes] = fitting[
                each.hidden, each.layers
            ][sizes]
        for key, shapes in lost.items():
            best = min(fitting[key].values())
            assert min(shapes.values()) == pytest.approx(best, abs=0.02)
            alike = [gone for sizes, gone in fitting[key].items() if len(set(sizes)) == 1]
            if alike:
                same = [gone for sizes, gone in shapes.items() if len(set(sizes)) == 1]
                assert min(same) == pytest.approx(min(alike))


def test_what_is_lost_is_run(teacher):
    """Without a layer, and with fewer channels, against the module itself, cut by hand."""
    module = load_module(teacher.model)
    rows = make_rows(teacher, TRAIN[:12], module)
    wanted = _answers(module, rows)
    moves = Moves(module, rows)
    depths = moves.depths(1)
    assert [len(layers) for layers in depths] == [3, 2, 1]
    without = {
        layers: _only(module, layers, rows, wanted)
        for layers in itertools.combinations(range(3), 2)
    }
    assert depths[1] == min(without, key=without.get)
    assert set(depths[2]) < set(depths[1])
    assert moves.of(module) == 0
    narrow = load_module(teacher.model)
    keep_hidden(narrow, range(20))
    assert moves.of(narrow) == pytest.approx(_divergence(wanted, _answers(narrow, rows)), abs=1e-5)


def _only(module, layers, rows, wanted):
    with only_layers(module, layers):
        return _divergence(wanted, _answers(module, rows))


def _answers(module, rows):
    with torch.no_grad():
        found = [
            answered(rows, batch.tolist(), module(**rows.feed(batch)).logits)
            for batch in rows.batches
        ]
    return torch.cat(found).log_softmax(-1)


def _divergence(wanted, found):
    return float((wanted.exp() * (wanted - found)).sum(-1).mean())


def test_numbers_that_are_measured():
    assert spread(range(1, 13)) == [1, 2, 3, 4, 5, 7, 9, 12]
    assert spread([64]) == [64]
    width = Width(0.5, {1: 1.0, 3: 2.0}, {8: 0.0, 24: 1.0})
    assert width.layer(2, 16) == pytest.approx(2.0)


def test_texts_too(tmp_path):
    train = labelled_texts(20, 1)
    student = tiny_teacher(tmp_path / "new", train, "text-classification")
    stage = Shape(layers=2, hidden=16, heads=2, neurons=16, samples=20)
    module = load_module(stage.apply(student, small_context(tmp_path / "run", train=train)).model)
    assert sizes(module) == ([2, 2], [16, 16])
