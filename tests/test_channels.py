"""Channels of convolutions: which can go, what is left without them, saved, exported, quantized."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from helpers import small_context
from pictures import COLOURS, pictures_of_colours, write_folder
from torch import nn

from edgecompress.engine.preflight import plan
from edgecompress.engine.recipe import load_recipe
from edgecompress.errors import DataError, EdgeCompressError, StageError
from edgecompress.models.session import open_session
from edgecompress.stage import check_stage, stage_class
from edgecompress.surgery.channels.cutting import keep_channels, silence
from edgecompress.surgery.channels.groups import channel_graph
from edgecompress.surgery.model import load_module, save_module
from edgecompress.surgery.sparsity import marked
from edgecompress.training import batch_norms
from edgecompress.training.body import for_task
from edgecompress.training.channel_search import choose_widths
from edgecompress.training.encoding import make_rows
from edgecompress.training.heads import HeadRules
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate, TorchModel

SIDE = 32
MODELS: dict[str, dict[str, Any]] = {
    "ResNet": {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 2],
               "layer_type": "basic"},
    "ConvNext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "MobileNetV2": {"image_size": SIDE, "depth_multiplier": 0.35},
    "EfficientNet": {"image_size": SIDE, "width_coefficient": 0.25, "depth_coefficient": 0.25,
                     "hidden_dim": 320},
    "MobileViT": {"image_size": SIDE, "hidden_sizes": [16, 24, 32],
                  "neck_hidden_sizes": [8, 16, 16, 24, 32, 32, 64], "num_attention_heads": 4},
    "RegNet": {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1],
               "groups_width": 8},
}  # fmt: skip

PROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": SIDE, "width": SIDE}}


def small_model(kind: str, **fields: Any) -> Any:
    """Make a model whose every tensor is random, normalizations and biases, too."""
    torch.manual_seed(0)
    names = dict(enumerate(COLOURS))
    config = getattr(transformers, f"{kind}Config")(**MODELS[kind], **fields, id2label=names)
    made = getattr(transformers, f"{kind}ForImageClassification")
    module = made._from_config(config, attn_implementation="eager").eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 1.5)
    for one in module.parameters():
        if one.ndim == 1:
            nn.init.normal_(one, 0.5, 0.2)
    return module


def pictures(rows: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"pixel_values": torch.randn(rows, 3, SIDE, SIDE, generator=generator)}


def drawn(graph: Any) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [
        sorted(random.choice(group.size, max(1, group.size // 2), replace=False).tolist())
        for group in graph.groups
    ]


def answer(module: nn.Module, feed: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        found = module(**feed)
    return found[0] if isinstance(found, tuple | dict) else found


def opened(kind: str, folder: Path) -> tuple[Candidate, Any]:
    """Import a small model as a teacher, and give a context with images for it."""
    place = folder / "hf"
    small_model(kind).save_pretrained(place)
    (place / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    made = import_teacher(str(place), "image-classification", COLOURS, folder / "teacher")
    examples = pictures_of_colours(6)
    return made, replace(small_context(folder / "c"), train=examples, validation=examples)


@pytest.mark.parametrize("kind", MODELS)
def test_removing_channels_is_the_same_as_reading_none_of_them(kind: str, tmp_path: Path) -> None:
    module, feed = small_model(kind), pictures()
    graph = channel_graph(module, feed)
    kept = drawn(graph)
    before = answer(module, feed)
    silence(module, graph, kept)
    expected = answer(module, feed)
    assert (before - expected).abs().max() > 1e-4  # they were no idle channels
    narrow = copy.deepcopy(module)
    keep_channels(narrow, graph, kept)
    assert torch.allclose(answer(narrow, feed), expected, atol=1e-5)
    numbers = [sum(one.numel() for one in each.parameters()) for each in (module, narrow)]
    assert numbers[1] < 0.75 * numbers[0]
    widths = [len(one) for one in kept]
    saved = sum(one.numel() for one in narrow.state_dict().values() if one.ndim)
    assert graph.cost("size", widths) == saved
    again = load_module(save_module(narrow, tmp_path / "saved"))
    ours, its = narrow.state_dict(), again.state_dict()
    assert [*ours] == [*its] and all(torch.equal(ours[name], its[name]) for name in ours)
    # Where weights lie in memory decides on some processors in which order they are summed up.
    assert torch.allclose(answer(again, feed), answer(narrow, feed), atol=1e-6)
    assert (tmp_path / "saved" / "model.safetensors").stat().st_size < 5 * numbers[1] + 50_000


def test_weights_of_convolutions_become_zero_and_stay_so(tmp_path: Path) -> None:
    made, context = opened("ResNet", tmp_path)
    whole = [one for one in load_module(made.model).modules() if isinstance(one, nn.Conv2d)]
    count = sum(one.weight.numel() for one in whole)
    stage = stage_class("prune.magnitude")(matrices=("convolutions",), sparsity=0.6)
    found = stage.apply(made, context)
    parts = marked(load_module(found.model))
    assert len(parts) == len(whole) > 3
    gone = sum(int((one.weight == 0).sum()) for one in parts.values())
    assert gone / count == pytest.approx(0.6, abs=1e-3)
    finetune = stage_class("finetune")(epochs=1, batch_size=4)
    taught = finetune.apply(found, replace(context, folder=tmp_path / "taught"))
    for name, one in marked(load_module(taught.model)).items():
        assert not one.weight[parts[name].weight == 0].any(), name


class Odd(nn.Module):
    """Streams that are joined, flattened, scaled, shared, split by number and normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.scale = nn.Parameter(torch.rand(16))
        self.after = nn.Conv2d(24, 16, 3)
        self.twice = nn.Conv2d(16, 16, 1)
        self.cut = nn.Conv2d(16, 24, 1)
        self.deep = nn.Conv2d(8, 16, 3, groups=8)
        self.norm = nn.GroupNorm(2, 16)
        self.flat = nn.Linear(16 * 4 * 4, 32)
        self.last = nn.Linear(32, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([self.left(image) * self.scale[:, None, None], self.right(image)], 1)
        read = self.twice(self.twice(torch.relu(self.after(joined))))
        parts = self.cut(read)[:, 8:16]
        states = self.norm(self.deep(parts)) + 1
        states = nn.functional.adaptive_max_pool2d(states, 4).flatten(1)
        return self.last(nn.functional.hardswish(self.flat(states)))


def test_any_module_is_followed_and_what_is_not_understood_stays() -> None:
    torch.manual_seed(0)
    module, feed = Odd().eval(), {"image": torch.randn(2, 3, 12, 12)}
    graph = channel_graph(module, feed)
    assert {group.name: group.size for group in graph.groups} == {
        "left": 16, "right": 8, "after": 16, "flat": 32,
    }  # fmt: skip
    assert graph.stopped == ("native_group_norm",)
    kept = drawn(graph)
    silence(module, graph, kept)
    expected = answer(module, feed)
    keep_channels(module, graph, kept)
    assert torch.allclose(answer(module, feed), expected, atol=1e-6)
    assert module.after.in_channels == 12 and module.twice.weight.shape[:2] == (8, 8)


def test_a_flattened_image_gives_each_channel_several_columns() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 9, 2)).eval()
    feed = {"input": torch.randn(2, 3, 5, 5)}
    graph = channel_graph(module, feed)
    silence(module, graph, [[1, 6]])
    expected = answer(module, feed)
    keep_channels(module, graph, [[1, 6]])
    assert module[3].weight.shape == (2, 18)
    assert torch.allclose(answer(module, feed), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("RegNet", {"remove": 0.5}),
        ("ResNet", {"target": {"macs": 0.5}, "importance": "taylor", "multiple_of": 4}),
        (
            "ResNet",
            {
                "target": {"size": 0.6},
                "importance": "magnitude",
                "multiple_of": 4,
                "scope": "layer",
            },
        ),
    ],
)
def test_the_stage_keeps_its_contract_and_its_bound(
    kind: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    candidate, context = opened(kind, tmp_path)
    stage = stage_class("prune.channels")(samples=12, **fields)
    made = check_stage(stage, candidate, context)
    decided = made.steps[-1].decisions
    names, before, after = zip(*decided["layers"], strict=True)
    assert len(set(names)) == len(names)
    assert all(now % stage.multiple_of == 0 or now == was
               for was, now in zip(before, after, strict=True))  # fmt: skip
    if stage.target is None:
        assert sum(after) <= 0.5 * sum(before)
    else:
        (aim,) = {"macs", "size"} & {*stage.target.model_dump(exclude_none=True)}
        assert 0.8 * getattr(stage.target, aim) < decided["left"][aim] <= getattr(stage.target, aim)
    assert decided["norms"] > 0 and "channels of convolutions" in stage.tell(made.steps[-1])
    narrow, wide = (load_module(one.model) for one in (made, candidate))
    assert sum(p.numel() for p in narrow.parameters()) < sum(p.numel() for p in wide.parameters())


@pytest.mark.parametrize("aim", ["channels", "size", "macs"])
@pytest.mark.parametrize("multiple", [1, 4])
def test_every_layer_loses_the_same_share_where_they_are_not_ranked_together(
    aim: Any, multiple: int
) -> None:
    graph = channel_graph(small_model("ResNet"), pictures())
    sizes = np.array([group.size for group in graph.groups])
    scores = [np.full(size, 10.0**number) for number, size in enumerate(sizes)]
    whole = graph.cost(aim, sizes)
    apart = np.array(choose_widths(graph, scores, aim, 0.5, multiple, "layer"))
    assert graph.cost(aim, apart) <= 0.5 * whole
    shares, block = apart / sizes, multiple / sizes
    assert all(shares + block >= shares.max()) and all(apart % multiple == 0)
    more = np.minimum(sizes, apart + multiple)
    assert graph.cost(aim, more) > 0.5 * whole  # no more went than had to
    together = np.array(choose_widths(graph, scores, aim, 0.5, multiple))
    assert (together / sizes)[0] < shares[0] and (together / sizes)[-1] > shares[-1]


def test_a_narrow_body_gets_a_head_for_other_classes(tmp_path: Path) -> None:
    candidate, context = opened("ResNet", tmp_path)
    narrow = stage_class("prune.channels")(remove=0.65, samples=8).apply(candidate, context)
    other = for_task(narrow, "image-classification", ("cold", "warm"), tmp_path / "other", 0)
    module, before = load_module(other.model), load_module(narrow.model)
    feed = pictures()
    assert answer(module, feed).shape == (2, 2)
    bodies = [one.resnet(**feed).pooler_output for one in (module, before)]
    assert torch.equal(*bodies) and bodies[0].shape[1] < 32


def test_classes_of_other_names_get_a_new_head(tmp_path: Path) -> None:
    """The configuration of a ResNet does not say how its weights were drawn."""
    module, names = small_model("ResNet"), [f"no {one}" for one in COLOURS]
    module.save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    rules = HeadRules(trained_later=True, renaming="new")
    made = import_teacher(
        str(tmp_path / "hf"), "image-classification", names, tmp_path / "teacher", rules=rules
    )
    found, body = load_module(made.model), "resnet.embedder.embedder.convolution.weight"
    assert torch.equal(found.state_dict()[body], module.state_dict()[body])
    new, old = (one.classifier[1].weight for one in (found, module))
    assert new.shape == old.shape and 0 < new.std() < 0.1 and not torch.equal(new, old)


def test_what_cannot_be_cut_is_refused_in_words(tmp_path: Path) -> None:
    stage = stage_class("prune.channels")
    with pytest.raises(ValueError, match="remove"):
        stage()
    with pytest.raises(ValueError, match="remove"):
        stage(remove=0.5, target={"latency": 0.5})
    candidate, context = opened("ResNet", tmp_path)
    with pytest.raises(StageError, match=r"of the channels stay, more than 0\.010"):
        stage(remove=0.99, samples=8).apply(candidate, context)
    with pytest.raises(StageError, match="no record of which channels"):
        stage(remove=0.5, samples=8).apply(candidate, context, {"kept": []})
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(DataError, match=r"cut by prune\.structured"):
        stage.check_model(tmp_path / "vit")
    nothing = nn.Sequential(nn.Linear(4, 2))
    with pytest.raises(StageError, match="no channel can be removed"):
        channel_graph(nothing, {"input": torch.randn(2, 4)})


def test_a_record_of_shapes_that_do_not_fit_is_refused(tmp_path: Path) -> None:
    module = small_model("ResNet")
    saved = save_module(module, tmp_path / "whole")
    assert not (saved.directory / "surgery.json").exists()
    name = "resnet.embedder.embedder.convolution.weight"
    for shapes in ({name: [400, 3, 7, 7]}, {name: [8, 3]}, {"no.such": [1]}, {name: [8, 3, 7, 7]}):
        record = saved.directory / "surgery.json"
        record.write_text(json.dumps({"format": 3, "shapes": shapes}))
        with pytest.raises(EdgeCompressError, match=r"surgery record|do not fit"):
            load_module(TorchModel(saved.directory))


def last_norm(module: nn.Module, seen: list[torch.Tensor]) -> Any:
    """Give the last batch normalization, whose inputs are kept in `seen` from now on."""
    found = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)][-1]
    found.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    return found


def test_folded_normalizations_are_measured_without_a_change_of_the_answers(tmp_path: Path) -> None:
    candidate, context = opened("ResNet", tmp_path)
    module = load_module(candidate.model)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):  # as after folding: nothing measured
            part.running_mean.zero_()
            part.running_var.fill_(1)
    rows = make_rows(candidate, context.train, module)
    feed, seen = rows.feed(range(len(rows))), []
    before, norm = answer(module, feed), last_norm(module, seen)
    batch_norms.measure_inputs(module, rows)
    assert torch.allclose(answer(module, feed), before, rtol=1e-3, atol=1e-4)
    assert torch.allclose(norm.running_mean, seen[-1].mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(norm.running_var, seen[-1].var((0, 2, 3)), rtol=0.01)
    assert (norm.running_var - 1).abs().max() > 0.01


def test_a_narrow_model_holds_the_means_of_what_its_normalizations_are_given(
    tmp_path: Path,
) -> None:
    candidate, context = opened("ResNet", tmp_path)
    made = stage_class("prune.channels")(remove=0.4, samples=18).apply(candidate, context)
    module = load_module(made.model)
    rows = make_rows(made, context.train, module)
    seen: list[torch.Tensor] = []
    norm = last_norm(module, seen)
    answer(module, rows.feed(range(len(rows))))
    assert torch.allclose(norm.running_mean, seen[-1].mean((0, 2, 3)), atol=0.01)
    whole = last_norm(load_module(candidate.model), [])
    assert len(norm.running_mean) != len(whole.running_mean) or not torch.allclose(
        norm.running_mean, whole.running_mean, atol=0.05
    )


def test_the_graph_of_a_narrow_model_is_narrow_folded_and_all_int8(tmp_path: Path) -> None:
    candidate, context = opened("ResNet", tmp_path)
    narrow = stage_class("prune.channels")(remove=0.4, samples=12).apply(candidate, context)

    def applied(stage: str, to: Candidate, **fields: Any) -> Candidate:
        data = {"train": context.train, "validation": context.validation}
        return stage_class(stage)(**fields).apply(to, small_context(tmp_path / stage, **data))

    exported = applied("export", narrow, exporter="dynamo")
    graph = onnx.load(exported.model.path).graph
    kinds = [node.op_type for node in graph.node]
    assert "BatchNormalization" not in kinds and kinds.count("Conv") == 8
    written = sorted(one.dims[0] for one in graph.initializer if len(one.dims) == 4)
    there, before = (
        sorted(m.out_channels for m in load_module(one.model).modules() if isinstance(m, nn.Conv2d))
        for one in (narrow, candidate)
    )
    assert written == there and sum(there) < 0.8 * sum(before)
    integers = applied("quantize.static", exported, samples=18)
    assert len(integers.steps[-1].decisions["int8_linears"]) == 9
    images = pictures(4)["pixel_values"].numpy()
    first, second = (
        open_session(one.model).run(None, {"pixel_values": images})[0]
        for one in (exported, integers)
    )
    assert np.abs(first - second).max() < 0.1 * np.abs(first).max()


def test_check_says_which_stage_cuts_a_model_before_work_starts(tmp_path: Path) -> None:
    for kind, module in (("resnet", small_model("ResNet")), ("vit", None)):
        if module is None:
            config = transformers.ViTConfig(
                hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                image_size=SIDE, id2label=dict(enumerate(COLOURS)),
            )  # fmt: skip
            module = transformers.ViTForImageClassification(config)
        module.save_pretrained(tmp_path / kind)
        (tmp_path / kind / "preprocessor_config.json").write_text('{"size": 32}')
    for seed, split in enumerate(("train", "dev", "test")):
        write_folder(tmp_path / split, 2, seed)
    stages = {
        "vit": ("prune.channels: {remove: 0.5}", r"r\.yaml:5.*cut by prune\.structured"),
        "resnet": ("prune.structured: {ffn: 0.5}", r"r\.yaml:5.*removed by prune\.channels"),
    }
    for kind, (stage, said) in stages.items():
        (tmp_path / "r.yaml").write_text(
            f"name: x\ntask: image-classification\nteacher: {{model: {kind}}}\n"
            f"data: {{format: images, root: ., train: train, validation: dev, test: test}}\n"
            f"stages: [{stage}, export]\n"
        )
        with pytest.raises(EdgeCompressError, match=said):
            plan(load_recipe(tmp_path / "r.yaml"))


def test_the_page_cuts_a_network_of_ones_own() -> None:
    page = (Path(__file__).parent.parent / "docs" / "pruning.md").read_text(encoding="utf-8")
    code = page.partition("### A network of your own")[2].split("```")[1].removeprefix("python")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.relu(self.first(x)))

    given = {"Net": Net, "module": Net().eval(), "images": torch.randn(2, 3, 8, 8)}
    exec(code, given)
    module, again = given["module"], given["again"]
    assert module.first.out_channels == 4 and module.second.out_channels == 4
    again.load_state_dict(module.state_dict())
    assert torch.equal(again(given["images"]), module(given["images"]))
