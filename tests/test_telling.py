"""Steps in words: true to their decisions, and nothing breaks on those of a stranger."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgecompress.report.facts import quantized, trained
from edgecompress.telling import in_words
from edgecompress.values import Step


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Step("teacher", {"from": "new"}), "Began with a new model with random weights."),
        (Step("teacher", {"from": "minilm"}), "Began with the model minilm."),
        (
            Step("finetune", {"epochs": 2}, {"best_epoch": 2, "scores": [0.6, 0.65625]}),
            "Trained on the training split for 2 epochs; kept the weights of epoch 2 (65.62 on "
            "validation).",
        ),
        (
            Step(
                "vocabulary.trim",
                {"keep": 12000},
                {"pieces": [30522, 12000], "held_out": {"words_split_otherwise": 0.0123}},
            ),
            "Kept 12,000 of 30,522 word pieces; 1.23 % of the words on validation fall into "
            "others.",
        ),
        (
            Step(
                "vocabulary.share", {"rows": 6000}, {"rows": [30522, 6000], "held_out_shared": 0.05}
            ),
            "Kept 6,000 of 30,522 rows of the word embedding; the other pieces (5.00 % of the "
            "pieces on validation) are read as the most similar one that kept its row.",
        ),
        (
            Step(
                "vocabulary.replace",
                {"pieces": 8000},
                {
                    "sizes": [30522, 8000],
                    "held_out": {
                        "pieces_per_word": [1.7547, 1.3084],
                        "pieces_per_word_by_file": {"pcm": [1.2704, 1.3309], "swa": [2.1, 1.4]},
                    },
                },
            ),
            "Replaced 30,522 word pieces by 8,000 of the corpus; a word on validation falls into "
            "1.31, not 1.75 (pcm 1.33, not 1.27; swa 1.40, not 2.10).",
        ),
        (
            Step(
                "factorize", {}, {"ranks": {"a": 16}, "parameters": {"before": 2000, "after": 900}}
            ),
            "Wrote 1 matrix as low-rank products: 2,000 weights became 900.",
        ),
        (
            Step(
                "quantize.dynamic",
                {},
                {
                    "int8_linears": ["a", "b"],
                    "int8_embeddings": ["w", "p"],
                    "exceptions": {},
                    "stored_in_4_bits": ["w", "p"],
                },
            ),
            "Made 2 linear layers and 2 embedding tables (4-bit) of integers (8-bit where nothing "
            "else is said) in ONNX Runtime's operators, activation ranges found anew for every "
            "input. Nothing of them was left in floating point.",
        ),
        (
            Step(
                "prune.structured",
                {"importance": "taylor"},
                {
                    "heads": [[0], [0, 1]],
                    "heads_before": [2, 2],
                    "neurons": [16, 48],
                    "neurons_before": [64, 64],
                },
            ),
            "Removed 1 of 4 attention heads (3 left, by layer 1 + 2) and 64 of 128 neurons (64 "
            "left): those whose absence was estimated to cost least.",
        ),
        (
            Step(
                "prune.structured",
                {"importance": "fisher", "reconstruct": True},
                {
                    "heads": [[0, 1]],
                    "heads_before": [2],
                    "neurons": [48],
                    "neurons_before": [64],
                    "hidden": 32,
                    "hidden_before": 48,
                },
            ),
            "Removed 16 of 64 neurons (48 left) and 16 of 48 hidden channels (32 left): those "
            "whose absence was estimated to change the answers least. The rest was fitted to the "
            "whole model.",
        ),
        (
            Step("prune.layers", {}, {"kept": [0, 3], "dropped": [{"layer": 1}, {"layer": 2}]}),
            "Kept 2 of 4 layers (0 and 3, counted from 0) and removed the others, one by one the "
            "layer that was missed least.",
        ),
        (
            Step(
                "prune.magnitude",
                {"sparsity": 0.5},
                {"zeros": 1500, "weights": 3000, "tensors": {"a.weight": 0.4, "b.weight": 0.6}},
            ),
            "Set the smallest weights to zero: 1,500 of the 3,000 in 2 matrices. No inference gets "
            "faster by that; the compressed download gets smaller.",
        ),
        (
            Step("finetune", {}, {"gradual": {"zeros": 15, "weights": 30, "tensors": {"a": 0.5}}}),
            "Trained on the training split. On the way the smallest weights became zero: 15 of "
            "the 30 in 1 matrix.",
        ),
        (
            Step(
                "finetune",
                {},
                {
                    "gradual": {
                        "heads": [[0], [0, 1]],
                        "heads_before": [2, 2],
                        "neurons": [64, 64],
                        "neurons_before": [64, 64],
                    }
                },
            ),
            "Trained on the training split. On the way: removed 1 of 4 attention heads (3 left, "
            "by layer 1 + 2).",
        ),
        (
            Step("export", {}, {"opset": 18, "parity": {"max_abs_difference": 6e-08}}),
            "Written as ONNX, operator set 18; its outputs differ from PyTorch's by 6e-08 at most.",
        ),
        (
            Step(
                "fuse",
                {},
                {"chosen": "attention", "fusions": ["attention"], "disabled_optimizers": []},
                measured={"variants": {"none": {}, "attention": {}}},
            ),
            "Fused attention, the fastest of 2 variants that were measured.",
        ),
        (
            Step("fuse", {}, {"chosen": "none", "variants": {"none": {}, "gelu": {}}}),
            "Left the graph as it was: no fusion that was tried made it faster.",
        ),
        (
            Step(
                "quantize.dynamic",
                {},
                {"int8_linears": ["a", "b"], "int8_embeddings": ["c"], "exceptions": {}},
            ),
            "Made 2 linear layers and 1 embedding table 8-bit in ONNX Runtime's operators, "
            "activation ranges found anew for every input. Nothing of them was left in floating "
            "point.",
        ),
        (
            Step(
                "quantize.inc_static",
                {"calibration": "masakhaner"},
                {
                    "int8_linears": ["a"],
                    "int8_embeddings": [],
                    "calibrated_on": 64,
                    "exceptions": {"head": "too small"},
                },
            ),
            "Made 1 linear layer 8-bit by Intel Neural Compressor, activation ranges from 64 "
            "training examples of the calibration set masakhaner. Left in floating point: head "
            "(too small).",
        ),
    ],
)
def test_what_each_stage_did(step: Step, text: str) -> None:
    assert in_words(step) == text


def test_ranges_from_very_few_examples_are_remarked_on() -> None:
    found = {"int8_linears": ["a"], "int8_embeddings": [], "calibrated_on": 2}
    text = in_words(Step("quantize.static", {}, found))
    assert "Beware: calibrated on only 2 examples: about 67 % of new texts" in text
    assert "Beware" not in in_words(Step("quantize.static", {}, {**found, "calibrated_on": 200}))


@pytest.mark.parametrize("stage", ["third.party", "fuse", "prune.structured", "quantize.static"])
def test_decisions_of_a_stranger_are_named(stage: str) -> None:
    text = in_words(Step(stage, {"share": 0.5}, {"heads": "all of them", "fusions": 3}))
    assert text == ("Ran with share 0.5. The manifest holds what it decided: heads, fusions.")


def test_what_steps_mean_for_trust() -> None:
    steps = (Step("distil", {"epochs": 3}), Step("export"), Step("quantize.dynamic"))
    assert trained(steps) and quantized(steps)
    assert not trained(steps[1:]) and not quantized(steps[:2])
    assert trained((Step("third.party", {"epochs": 1}),))


def test_telling_loads_no_heavy_library() -> None:
    code = (
        "import sys; from edgecompress.stage import stage_modules; "
        "from edgecompress.telling import in_words; from edgecompress.values import Step; "
        "[in_words(Step(name)) for name in stage_modules()]; "
        "print({'torch', 'transformers', 'onnx', 'onnxruntime'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
