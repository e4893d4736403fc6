"""Quantization-aware training of tiny models, up to the static file that it trains for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import labelled_texts, small_context, tagged_examples, tiny_teacher
from small_encoders import write_encoder

from edgecompress.errors import StageError
from edgecompress.models.session import open_session
from edgecompress.models.storage import read_model
from edgecompress.quantization.graphs.fusion import fuse
from edgecompress.quantization.observe.learned import check_kept
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stage import checked
from edgecompress.stages.distil import Distil
from edgecompress.stages.export import Export
from edgecompress.stages.finetune import Finetune
from edgecompress.stages.prune.layers import Layers
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.static import Static
from edgecompress.surgery.model import load_module, save_module
from edgecompress.training.encoding import make_rows
from edgecompress.training.fake_quant_training import FakeQuantized
from edgecompress.training.qat_fields import Qat
from edgecompress.values import Candidate, OnnxModel, directory_digests

TAGGED = tagged_examples(96, 1), tagged_examples(40, 2)


def trained(folder: Path, start: Candidate, qat: Qat, **fields) -> Candidate:
    train, validation = fields.pop("data", TAGGED)
    stage = Finetune(**{"epochs": 2, "learning_rate": 2e-3, "qat": qat, **fields})
    return checked(stage, start, small_context(folder, train=train, validation=validation))


def as_rounded(made: Candidate, plan: Qat, examples) -> tuple[torch.nn.Module, object]:
    """The PyTorch module that rounds with the learned ranges, and its rows."""
    module = load_module(made.model)
    rows = make_rows(made, examples, module)
    rounding = FakeQuantized(module, plan.model_copy(update={"ranges": "calibrated"}), rows, 0)
    for index, group in enumerate(rounding._groups):
        rounding.tensors["base"][index] = torch.tensor(made.ranges[group[0]])
    return module, rows


@pytest.mark.parametrize(
    ("family", "task", "plan"),
    [
        ("Bert", "token-classification", Qat()),
        ("XLMRoberta", "text-classification", Qat(embedding_bits=4, embedding_block=16)),
        ("DistilBert", "token-classification", Qat(activation="int8", reduce_range=True)),
        ("Albert", "token-classification", Qat(weight="uint8", symmetric=False)),
    ],
)
def test_what_is_trained_is_what_the_static_file_computes(family, task, plan, tmp_path):
    """To the last bit, but for rows in which LayerNorm's last digit puts a code on its other side.

    Both sum exactly (fewer than 2^24), and both work on this machine's instructions.
    """
    data = TAGGED if task == "token-classification" else (labelled_texts(96, 1), labelled_texts(40))
    # Many: flipped codes are rare, and each changes its row by a third of what rounding does.
    asked = tagged_examples(200, 2) if data is TAGGED else labelled_texts(200)
    start = write_encoder(tmp_path / "start", family, task)
    made = trained(tmp_path / "qat", start, plan, data=data)
    exported = checked(Export(), made, small_context(tmp_path / "e", validation=data[1]))
    assert set(exported.ranges.values()) == {tuple(pair) for pair in made.ranges.values()}
    fields = {
        name: getattr(plan, name)
        for name in ("weight", "activation", "symmetric", "reduce_range", "embedding_bits")
    }
    stage = Static(ranges="qat", embedding_block=plan.embedding_block, **fields)
    static = checked(stage, exported, small_context(tmp_path / "s"))
    found = coverage(static.model)
    assert not found.fp32_linears and not found.fp32_embeddings
    decided = static.steps[-1].decisions
    assert decided["exceptions"] == {} and set(decided["ranges"]) == set(exported.ranges)

    module, rows = as_rounded(made, plan, asked)
    session, fp32 = open_session(static.model), open_session(exported.model)
    names = tuple(value.name for value in session.get_inputs())
    gaps, effects = [], []
    for row in range(len(rows)):
        feed = rows.feed([row])
        with torch.no_grad():
            expected = module(**feed).logits.numpy()
        given = rows.batch([row], names)
        (got,), (plain,) = session.run(None, given), fp32.run(None, given)
        gaps.append(np.abs(expected - got).max())
        effects.append(np.abs(plain - got).max())
    # A code may flip where LayerNorm's last digit differs; in nearly all rows none does.
    assert np.median(gaps) == 0
    assert np.mean(gaps) < 0.02 * np.mean(effects)


def test_with_a_teacher_and_with_pruned_heads_it_is_the_same(tmp_path):
    start = tiny_teacher(tmp_path / "new", TAGGED[0], "token-classification")
    context = small_context(tmp_path / "d", train=TAGGED[0], validation=TAGGED[1], teacher=start)
    stage = Distil(epochs=2, qat={}, gradual={"heads": 0.5, "ffn": 0.5, "every": 2})
    made = checked(stage, start, context)
    assert made.steps[-1].decisions["gradual"]["heads"]
    exported = Export().apply(made, small_context(tmp_path / "e", validation=TAGGED[1]))
    static = checked(Static(ranges="qat"), exported, small_context(tmp_path / "s"))
    assert not coverage(static.model).fp32_linears


def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path):
    start = tiny_teacher(tmp_path / "new", TAGGED[0], "token-classification")
    stage = Finetune(epochs=3, learning_rate=2e-3, qat={"from": 0.4})
    whole = small_context(tmp_path / "a", train=TAGGED[0], validation=TAGGED[1])
    expected = checked(stage, start, whole)

    def stop(done, total, what=""):
        if done > 0.7 * total:
            raise KeyboardInterrupt

    cut = small_context(tmp_path / "b", train=TAGGED[0], validation=TAGGED[1], progress=stop)
    with pytest.raises(KeyboardInterrupt):
        stage.apply(start, cut)
    assert list(cut.scratch.glob("epoch-*"))
    again = small_context(tmp_path / "b", train=TAGGED[0], validation=TAGGED[1])
    found = checked(stage, start, again)
    assert len(again.said) < len(whole.said)
    assert directory_digests(found.model.directory) == directory_digests(expected.model.directory)
    assert found.ranges == expected.ranges and found.ranges
    decided = found.steps[-1].decisions
    assert decided["best_epoch"] > 1 and decided["scores"][0] is None  # nothing rounded yet


def test_a_table_that_4_bits_would_ruin_is_kept_with_training_and_without(tmp_path):
    """A channel of the word embedding so large that 4 bits leave the others of its block none.

    Training for it adapts the table; calibration alone sees that it does not fit, and stores it in
    another way.
    """
    start = tiny_teacher(tmp_path / "new", TAGGED[0], "token-classification", layers=1)
    plain = trained(tmp_path / "plain", start, None, epochs=4, learning_rate=4e-3)
    module = load_module(plain.model)
    embeddings = module.base_model.embeddings
    with torch.no_grad():  # the model computes what it did
        embeddings.word_embeddings.weight[:, 3] += 1.0
        embeddings.token_type_embeddings.weight[:, 3] -= 1.0
    hard = replace(plain, model=save_module(module, tmp_path / "hard" / "model"))
    fields = {"embedding_bits": 4, "embedding_block": 32}
    learned = trained(tmp_path / "qat", hard, Qat(**fields), epochs=4, learning_rate=4e-3)
    losses = [
        _loss(hard, None, tmp_path / "fp32"),
        _loss(learned, Static(ranges="qat", **fields), tmp_path / "s"),
        _loss(hard, Static(**fields), tmp_path / "c"),
    ]
    assert losses[1] < 1.5 * losses[0] and losses[2] < 1.5 * losses[0], losses


def _loss(candidate: Candidate, stage: Static | None, folder: Path) -> float:
    """Mean cross entropy of the quantized (or the exported) model on the validation rows."""
    train, validation = TAGGED
    exported = Export().apply(candidate, small_context(folder / "e", validation=validation))
    context = small_context(folder / "q", train=train)
    made = exported if stage is None else stage.apply(exported, context)
    session = open_session(made.model)
    module = load_module(candidate.model)
    rows = make_rows(candidate, validation, module)
    total = 0.0
    for row in range(len(rows)):
        feed = {name: tensor.numpy() for name, tensor in rows.feed([row]).items()}
        logits = torch.from_numpy(session.run(None, feed)[0])
        targets = rows.taught([row])["labels"]
        total += float(torch.nn.functional.cross_entropy(logits[0], targets[0], ignore_index=-100))
    return total / len(rows)


def test_what_is_excluded_stays_fp32_in_both(tmp_path):
    start = tiny_teacher(tmp_path / "new", TAGGED[0], "token-classification")
    plan = Qat(exclude=("classifier", "bert.encoder.layer.0.intermediate"))
    made = trained(tmp_path / "qat", start, plan, epochs=1)
    assert not {"classifier", "bert.encoder.layer.0.intermediate.dense"} & set(made.ranges)
    exported = Export().apply(made, small_context(tmp_path / "e", validation=TAGGED[1]))
    static = Static(ranges="qat").apply(exported, small_context(tmp_path / "s"))
    decided = static.steps[-1].decisions["exceptions"]
    assert set(decided) == {"/classifier/MatMul", "/bert/encoder/layer.0/intermediate/dense/MatMul"}
    assert set(decided.values()) == {"training has learned no range for its input"}
    with pytest.raises(StageError, match=r"excludes clasifier.*did you mean 'classifier"):
        trained(tmp_path / "x", start, Qat(exclude=("clasifier",)))


def test_weights_alone_give_no_ranges(tmp_path):
    start = tiny_teacher(tmp_path / "new", TAGGED[0], "token-classification")
    made = trained(tmp_path / "qat", start, Qat(activations=False), epochs=1)
    assert made.ranges == {} and made.steps[-1].decisions["qat"] == {"layers": 19, "tables": 3}
    exported = Export().apply(made, small_context(tmp_path / "e", validation=TAGGED[1]))
    dynamic = Dynamic().apply(exported, small_context(tmp_path / "s"))
    assert not coverage(dynamic.model).fp32_linears
    with pytest.raises(StageError, match="carries no learned ranges"):
        Static(ranges="qat").apply(exported, small_context(tmp_path / "t"))


def test_ranges_travel_with_the_candidate_until_another_model_is_made(tmp_path):
    start = tiny_teacher(tmp_path / "new", TAGGED[0], "token-classification")
    made = trained(tmp_path / "qat", start, Qat(), epochs=1)
    folder = tmp_path / "qat" / "folder"
    made.save(folder)
    assert Candidate.load(folder).ranges == made.ranges
    fewer = Layers(keep=2).apply(made, small_context(tmp_path / "l", train=TAGGED[0]))
    assert fewer.ranges == {}


def test_a_fused_graph_has_all_ranges_or_is_refused(tmp_path):
    start = tiny_teacher(tmp_path / "new", TAGGED[0], "token-classification")
    made = trained(tmp_path / "qat", start, Qat(), epochs=1)
    exported = Export().apply(made, small_context(tmp_path / "e", validation=TAGGED[1]))
    path = tmp_path / "fused" / "model.onnx"
    fuse(exported.model.path, ("attention", "gelu", "skip_layer_norm"), "bert", path)
    check_kept(read_model(exported.model.path), read_model(path), exported.ranges)
    fused = replace(exported, model=OnnxModel(path))
    static = Static(ranges="qat").apply(fused, small_context(tmp_path / "s"))
    assert coverage(static.model).operators["QAttention"] == 3
    lost = read_model(path)
    for node in lost.proto.graph.node:
        for names in (node.input, node.output):
            names[:] = ["renamed" if "intermediate_act_fn" in n else n for n in names]
    with pytest.raises(StageError, match="would lose the range that training has learned"):
        check_kept(read_model(exported.model.path), lost, exported.ranges)
