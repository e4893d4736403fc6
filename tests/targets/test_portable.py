"""Where int8 answers differ between processors, and that preset `portable` makes them equal.

On the host, on x86 without VNNI (AVX2), and on Arm without and with dot product, emulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import small_context, tagged_examples
from lookup_models import SPECIALS, write_tokenizer
from onnx import TensorProto, helper, numpy_helper
from small_encoders import write_encoder

from edgecompress.errors import TargetError
from edgecompress.quantization.graphs.fusion import fuse
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.static import Static
from edgecompress.targets import Job, JobModel, open_target
from edgecompress.targets.base import Feeds, feeds_from_rows
from edgecompress.targets.emulated import prepare
from edgecompress.targets.inputs import encoded_feeds
from edgecompress.tasks import Rows
from edgecompress.texts import words_example
from edgecompress.values import Candidate, OnnxModel

pytestmark = pytest.mark.debian("qemu-user")

AVX2, A72, A76 = (f"emulated://{name}" for name in ("x86-avx2", "cortex-a72", "cortex-a76"))
TARGETS = ("local", AVX2, A72, A76)
FORMS = ("dynamic", "fused", "static")
EXAMPLES = tagged_examples(24, seed=5)
WIDTH = 64
WORDS = ("many", "few")
MANY = (words_example(words=("many", "few", "many"), tags=("O",) * 3),)
WEIGHTS = {
    "7 bits": np.full((WIDTH, WIDTH), 64, np.int8),
    "7 bits, negative": np.full((WIDTH, WIDTH), -64, np.int8),
    "uint8": np.full((WIDTH, WIDTH), 255, np.uint8),
    "65": np.full((WIDTH, WIDTH), 65, np.int8),
    "8 bits": np.full((WIDTH, WIDTH), 127, np.int8),
    "-128": np.full((WIDTH, WIDTH), -128, np.int8),
}


@pytest.fixture(scope="module")
def emulation() -> None:
    try:
        for name in (AVX2, A72, A76):
            prepare(name)
    except TargetError as error:
        pytest.skip(f"needs the Debian packages qemu-user and gcc: {error}")


def quantize(source: Candidate, form: str, preset: str | None, folder: Path) -> Candidate:
    """Quantize by a stage as a recipe does; ``fused`` is dynamic after attention is fused."""
    if form == "static":
        context = small_context(folder, train=EXAMPLES)
        stage: Dynamic | Static = Static(preset=preset, samples=16)
    else:
        context, stage = small_context(folder), Dynamic(preset=preset)
    return stage.apply(source, context)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Candidate]:
    """A small encoder in every form, with the presets of x86 with VNNI and of all processors."""
    folder = tmp_path_factory.mktemp("encoders")
    encoder = write_encoder(folder / "encoder", "Bert", "token-classification")
    plain = Export().apply(encoder, small_context(folder / "export"))
    fuse(plain.model.path, ("attention",), "bert", folder / "fused" / "model.onnx")
    fused = plain.with_model(OnnxModel(folder / "fused" / "model.onnx"))
    return {
        (form, preset): quantize(
            fused if form == "fused" else plain, form, preset, folder / f"{form}-{preset}"
        )
        for form in FORMS
        for preset in ("x86-vnni", "portable")
    }


def saturating(folder: Path) -> Candidate:
    """Write a tagger whose answer for the word «many» hangs on the sum of many equal products.

    Class 0 has a weight of 1 for each of 64 inputs, class 1 one of 1.8 for every other; all inputs
    are 1. So class 0 wins, 64 to 57.6; where two products stop at 32767 it gets half. For the word
    «few» only four inputs are not 0, and class 1 has the even ones.
    """
    write_tokenizer(folder / "preprocessor", WORDS)
    table = np.zeros((len(SPECIALS) + len(WORDS), WIDTH), np.float32)
    table[len(SPECIALS)] = 1.0
    table[len(SPECIALS) + 1, :8:2] = 1.0
    weight = np.stack([np.ones(WIDTH), np.tile([1.8, 0.0], WIDTH // 2)], axis=1)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"], "embed"),
            helper.make_node("MatMul", ["rows", "weight"], ["logits"], "head"),
        ],
        "tagger",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", 2])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(weight.astype(np.float32), "weight"),
        ],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    model = OnnxModel(folder / "model.onnx")
    return Candidate(model, folder / "preprocessor", "token-classification", ("O", "B-PER"))


@dataclass(frozen=True)
class Group:
    """Models that are asked the same, and what each answered on every target."""

    models: Sequence[OnnxModel]
    feeds: Feeds
    answers: dict[str, list[list[np.ndarray]]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def asked(
    emulation: None,
    encoders: dict[tuple[str, str], Candidate],
    saturated: dict[tuple[str, str | None], Candidate],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Group]:
    """Ask all models in one job for each target: an emulated process takes seconds to start."""
    folder = tmp_path_factory.mktemp("asked")
    portable = [encoders[form, "portable"] for form in FORMS]
    some = list(saturated.values())
    files = [product(folder / f"{n}.onnx", weight) for n, weight in enumerate(WEIGHTS.values())]
    rows = [np.full((count, WIDTH), value, np.uint8) for count in (1, 7) for value in (0, 255)]
    groups = {
        "encoders": Group([one.model for one in portable], encoded_feeds(portable[0], EXAMPLES)[0]),
        "saturated": Group([one.model for one in some], encoded_feeds(some[0], MANY)[0]),
        "products": Group(files, feeds_from_rows([{"x": row} for row in rows], range(len(rows)))),
    }
    models = tuple(
        JobModel(model, number)
        for number, group in enumerate(groups.values())
        for model in group.models
    )
    job = Job("answers", models, tuple(group.feeds for group in groups.values()))
    for target in TARGETS:
        outputs = iter(open_target(target).run(job, folder / target[-3:]).outputs)
        for group in groups.values():
            group.answers[target] = [list(next(outputs)[0]) for _ in group.models]
    return groups


def labels(logits: Sequence[np.ndarray], rows: Rows) -> tuple[tuple[str, ...], ...]:
    answers = rows.task.decode([row[0] for row in logits], rows)
    return tuple(tuple(each) for each in answers.labels)


def test_portable_quantizes_the_same_nodes_and_runs_the_same_kernels(encoders) -> None:
    for form in FORMS:
        one, other = (encoders[form, preset] for preset in ("x86-vnni", "portable"))
        first, second = (made.steps[-1].decisions for made in (one, other))
        for name in ("int8_linears", "int8_embeddings", "exceptions"):
            assert first[name] == second[name]
        assert coverage(one.model).operators == coverage(other.model).operators
    assert coverage(encoders["fused", "portable"].model).operators["QAttention"] == 2


def test_portable_gives_the_same_answers_on_every_processor(asked, encoders) -> None:
    rows = encoded_feeds(encoders["dynamic", "portable"], EXAMPLES)[1]
    said = {
        target: [labels(each, rows) for each in found]
        for target, found in asked["encoders"].answers.items()
    }
    assert len({label for each in said["local"][0] for label in each}) > 1
    for target in (AVX2, A72, A76):
        for form, mine, others in zip(FORMS, said["local"], said[target], strict=True):
            assert mine == others, (form, target)


@pytest.fixture(scope="module")
def saturated(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str | None], Candidate]:
    """The tagger whose sums may stop at 16 bits, in each form and with each preset."""
    folder = tmp_path_factory.mktemp("saturated")
    source = saturating(folder / "tagger")
    found = {}
    for form in ("dynamic", "static"):
        for preset in (None, "x86-vnni", "x86-avx2", "portable"):
            context = small_context(folder / f"{form}-{preset}", train=MANY)
            stage = Static(preset=preset) if form == "static" else Dynamic(preset=preset)
            found[form, preset] = stage.apply(source, context)
    return found


def test_saturation_changes_answers_and_7_bits_do_not_saturate(asked, saturated) -> None:
    rows = encoded_feeds(saturated["dynamic", None], MANY)[1]
    right = (("O", "B-PER", "O"),)
    given = asked["saturated"].answers
    for index, (form, preset) in enumerate(saturated):
        on_avx2 = labels(given[AVX2][index], rows)
        on_arm = [labels(given[target][index], rows) for target in (A72, A76)]
        assert on_arm == [right, right], (form, preset)
        if preset in {"x86-avx2", "portable"}:
            assert on_avx2 == labels(given["local"][index], rows) == right, (form, preset)
            for target in (AVX2, A72, A76):
                for here, there in zip(given["local"][index], given[target][index], strict=True):
                    assert np.array_equal(here, there), (form, preset, target)
        else:
            assert on_avx2 == (("B-PER", "B-PER", "B-PER"),), (form, preset)


def test_portable_costs_no_more_instructions(emulation, encoders, tmp_path) -> None:
    candidates = [encoders["dynamic", preset] for preset in ("x86-vnni", "portable")]
    feeds, _, _ = encoded_feeds(candidates[0], EXAMPLES[:1])
    job = Job("instructions", tuple(JobModel(found.model) for found in candidates), (feeds,))
    for target in (AVX2, A72):
        place = open_target(target)
        if reason := place.not_measured("instructions"):
            pytest.skip(f"needs the Debian packages qemu-user and gcc: {reason}")
        full, portable = place.run(job, tmp_path / target[-3:]).instructions
        assert portable["all"] <= 1.02 * full["all"]


def product(file: Path, weight: np.ndarray) -> OnnxModel:
    """Write a product of uint8 inputs (rows, 64) and an integer weight (64, 64)."""
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["rows", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["rows", WIDTH])],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), file)
    return OnnxModel(file)


def test_the_largest_sums_fit_where_the_presets_say_so(asked) -> None:
    """Each kernel at its extremes: one row and several, all inputs 0 or 255, all weights alike."""
    group = asked["products"]
    wrong: dict[str, set[str]] = {}
    for target in (AVX2, A72, A76):
        wrong[target] = {
            name
            for (name, weight), answers in zip(WEIGHTS.items(), group.answers[target], strict=True)
            for row, given in zip(group.feeds.arrays["x"], answers, strict=True)
            if not np.array_equal(given, row.astype(int) @ weight.astype(int))
        }
    assert wrong[AVX2] == {"65", "8 bits", "-128"}
    assert wrong[A72] == {"-128"}
    assert wrong[A76] == set()
