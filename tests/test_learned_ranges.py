"""What training rounds for must be what a recipe quantizes; checked before any work."""

import pytest

from edgecompress.engine.recipe import build_recipe
from edgecompress.errors import RecipeError
from edgecompress.yamlfile import YamlFile

QAT = {"finetune": {"qat": {}}}
STATIC = {"quantize.static": {"ranges": "qat"}}


def check(*stages, complete=True):
    document = {
        "name": "x",
        "task": "token-classification",
        "model": "somewhere",
        "data": {"format": "conll", "root": ".", "train": ["t"], "validation": ["v"]},
        "stages": list(stages),
    }
    return build_recipe(YamlFile(document, None, {}), complete=complete)


@pytest.mark.parametrize(
    "stages",
    [
        [QAT, "export", STATIC],
        [QAT, "export", "fuse", STATIC],
        ["finetune", {"prune.magnitude": {"sparsity": 0.5}}, QAT, "export", STATIC],
        [QAT, {"finetune": {"qat": {"from": 0.1}}}, "export", STATIC],
        [{"finetune": {"qat": {"activations": False}}}, "export", "quantize.dynamic"],
        [
            {"finetune": {"qat": {"activations": False, "linears": False, "embedding_bits": 4}}},
            "export",
            {"quantize.weights": {"linears": False}},
        ],
        [
            {"finetune": {"qat": {"reduce_range": True, "embedding_block": 32}}},
            "export",
            {"quantize.static": {"ranges": "qat", "preset": "portable"}},
        ],
    ],
)
def test_chains_that_fit(stages):
    assert check(*stages).chains


@pytest.mark.parametrize(
    ("stages", "message", "key"),
    [
        ([QAT, "export"], "none follows", "stages[0].finetune.qat"),
        (["finetune", "export", STATIC], "no stage before it has qat", "quantize.static.ranges"),
        ([QAT, "export", "quantize.static"], "quantize.static does not use", "stages[2]"),
        ([QAT, "export", "quantize.dynamic"], "give qat activations: false", "stages[2]"),
        ([QAT, "finetune", "export", STATIC], "finetune makes another model", "ranges"),
        ([QAT, {"prune.layers": {"keep": 2}}, "export", STATIC], "prune.layers makes", "ranges"),
        (
            [{"finetune": {"qat": {"activations": False}}}, "export", STATIC],
            "learns no ranges",
            "ranges",
        ),
        (
            [QAT, "export", {"quantize.static": {"ranges": "qat", "embedding_bits": 4}}],
            "trains for embedding_bits 8, and quantize.static has 4",
            "quantize.static.embedding_bits",
        ),
        (
            [QAT, "export", {"quantize.static": {"ranges": "qat", "preset": "x86-avx2"}}],
            "trains for reduce_range false, and quantize.static has true",
            "quantize.static.reduce_range",
        ),
        (
            [{"finetune": {"qat": {"activations": False}}}, "export", "quantize.weights"],
            "linears: false",
            "stages[2]",
        ),
    ],
)
def test_chains_that_do_not_fit_are_refused_in_words(stages, message, key):
    with pytest.raises(RecipeError) as caught:
        check(*stages)
    assert message in caught.value.message and str(caught.value.key).endswith(key)


def test_one_stage_alone_may_work_on_what_another_left():
    assert check(QAT, complete=False).chains


def test_learned_ranges_need_no_data_and_take_none():
    document = {"name": "x", "model": "model.onnx", "stages": [STATIC]}
    with pytest.raises(RecipeError, match="no stage before it has qat"):
        build_recipe(YamlFile(document, None, {}))
    assert build_recipe(YamlFile(document, None, {}), complete=False).chains
    with pytest.raises(RecipeError, match="ranges: qat calibrates nothing"):
        check(QAT, "export", {"quantize.static": {"ranges": "qat", "samples": 8}})
