"""Sentence embeddings: vectors as sentence-transformers makes them, and how they are judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import small_context
from sentence_models import (
    scored_pairs,
    sentences,
    vectors_written_out,
    write,
    write_sentence_model,
)
from trained_tokenizers import texts
from trained_tokenizers import write as trained

from edgecompress.data import data_config
from edgecompress.engine.single import guess_task
from edgecompress.errors import DataError, EdgeCompressError, StageError
from edgecompress.processors import TextProcessor, processor_class
from edgecompress.runtime.prediction import Prediction
from edgecompress.tasks import Answers, task, wanted
from edgecompress.tasks._similarity import cosine
from edgecompress.training.heads import HeadRules
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate, Example

TASK = task("feature-extraction")
TEXTS = sentences(6, seed=3)


def imported(folder: Path, into: Path, **more: Any) -> Candidate:
    return import_teacher(str(folder), "feature-extraction", None, into, **more)


def vectors(candidate: Candidate, texts: list[str], prompt: str | None = None) -> np.ndarray:
    from edgecompress.targets.torch_answers import torch_answers

    asked = {} if prompt is None else {"prompt": prompt}
    found = torch_answers(candidate, [Example({"text": text, **asked}) for text in texts])
    return np.stack([one["vectors"][0] for one in found.details])


@pytest.mark.parametrize(
    ("family", "pooling", "dense", "normalize"),
    [
        ("Bert", ("cls", "max", "mean"), 5, False),
        ("DistilBert", ("lasttoken",), 4, True),
        ("ModernBert", ("mean",), None, False),
        ("Albert", ("max",), None, True),
    ],
)
def test_vectors_are_those_of_the_arithmetic_in_torch_and_in_the_graph(
    family: str, pooling: tuple[str, ...], dense: int | None, normalize: bool, tmp_path: Path
) -> None:
    body = write_sentence_model(tmp_path / "st", family, pooling, dense, normalize)
    candidate = imported(tmp_path / "st", tmp_path / "in")
    right = vectors_written_out(tmp_path / "st", body, TEXTS, pooling, dense is not None, normalize)
    assert np.abs(vectors(candidate, TEXTS) - right).max() < 1e-5
    from edgecompress.models.runner import open_onnx
    from edgecompress.stages.export import Export

    context = small_context(tmp_path / "export")
    made = Export().apply(candidate, context)
    runner = open_onnx(made.model)
    assert list(runner.outputs) == ["sentence_embedding"]
    rows = TASK.rows([Example({"text": text}) for text in TEXTS],
                     processor_class("sentences").load(made.preprocessor), ())  # fmt: skip
    names = [spec.name for spec in runner.specs]
    given = runner(rows.batch(range(len(rows)), names))["sentence_embedding"]
    assert given.dtype == np.float32 and np.abs(given - right).max() < 1e-4


def test_vectors_are_those_of_sentence_transformers(tmp_path: Path) -> None:
    package = pytest.importorskip("sentence_transformers")
    write_sentence_model(
        tmp_path / "st", pooling=("cls", "mean"), dense=6, limit=7,
        prompts={"query": "market "}, usual="query",
    )  # fmt: skip
    theirs = package.SentenceTransformer(str(tmp_path / "st"), device="cpu")
    candidate = imported(tmp_path / "st", tmp_path / "in")
    texts = [*TEXTS, " ".join(TEXTS)]
    assert np.abs(vectors(candidate, texts) - theirs.encode(texts)).max() < 1e-5


def test_prompts_and_the_longest_input_are_the_models_own(tmp_path: Path) -> None:
    write_sentence_model(
        tmp_path / "st", prompts={"query": "market ", "document": ""}, usual="query", limit=6
    )
    candidate = imported(tmp_path / "st", tmp_path / "in")
    bare = vectors(candidate, ["market Kano je"], "document")
    assert np.array_equal(bare, vectors(candidate, ["Kano je"]))
    assert np.array_equal(bare, vectors(candidate, ["Kano je"], "query"))
    # Four pieces beside [CLS] and [SEP]; what is behind them is not read.
    long = vectors(candidate, ["Kano je leo na dey", "Kano je leo na waka"], "document")
    assert np.array_equal(long[0], long[1])
    with pytest.raises(DataError, match="no prompt 'passage'; it has 'query', 'document'"):
        vectors(candidate, ["Kano"], "passage")


def test_a_copy_of_ours_is_read_without_their_files(tmp_path: Path) -> None:
    write_sentence_model(tmp_path / "st", dense=5)
    candidate = imported(tmp_path / "st", tmp_path / "in")
    candidate.save(tmp_path / "in")
    again = imported(tmp_path / "in", tmp_path / "again")
    assert np.array_equal(vectors(candidate, TEXTS), vectors(again, TEXTS))


def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    write_sentence_model(tmp_path / "st")
    assert guess_task(tmp_path / "st") == "feature-extraction"
    (tmp_path / "st" / "modules.json").unlink()
    assert guess_task(tmp_path / "st") is None
    with pytest.raises(DataError, match=r"has no modules\.json, which says how one vector"):
        imported(tmp_path / "st", tmp_path / "in")
    # Where it is trained, it is pooled in the usual way.
    made = imported(tmp_path / "st", tmp_path / "new", rules=HeadRules(trained_later=True))
    assert np.allclose(np.linalg.norm(vectors(made, TEXTS), axis=1), 1)


def test_files_that_are_wrong_are_named(tmp_path: Path) -> None:
    def refused(number: int, file: str, document: Any, said: str, **settings: Any) -> None:
        folder = tmp_path / str(number)
        write_sentence_model(folder, **settings)
        write(folder / file, document)
        with pytest.raises(DataError, match=said) as caught:
            imported(folder, tmp_path / f"{number}-in")
        assert file.rpartition("/")[2] in str(caught.value)

    listed = [{"path": "", "type": "a.Transformer"}, {"path": "1_Pooling", "type": "a.Pooling"}]
    refused(1, "modules.json", [*listed, {"path": "2", "type": "a.Asym"}], "lists Transformer")
    refused(2, "modules.json", {"path": ""}, "must be a list of parts")
    outside = [listed[0], {"path": "../x", "type": "a.Pooling"}]
    refused(3, "modules.json", outside, r"names the folder '\.\./x', which is outside")
    unseen = [listed[0], {"path": "pooling", "type": "a.Pooling"}]
    refused(9, "modules.json", unseen, "names the folder 'pooling'; call it .* such as 1_Pooling")
    refused(4, "1_Pooling/config.json", {"pooling_mode": "attention"}, "pools by .*attention")
    refused(5, "1_Pooling/config.json", {}, "pools by nothing")
    refused(6, "sentence_bert_config.json", {"max_seq_length": "long"}, "a number of tokens")
    refused(7, "config_sentence_transformers.json", {"prompts": {"a": 1}}, "must be texts")
    refused(8, "2_Dense/config.json", {"out_features": 5, "activation_function": "x.Mish"},
            "'Mish' is none of", dense=5)  # fmt: skip
    folder = tmp_path / "pickle"
    write_sentence_model(folder, dense=5)
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(DataError, match="a pickle is not read"):
        imported(folder, tmp_path / "pickle-in")


def table(folder: Path, text: str, **fields: Any) -> Any:
    (folder / "pairs.csv").write_text(text)
    described = data_config({"format": "csv", "root": folder, "train": "pairs.csv", **fields})
    return described.for_task(wanted(TASK)).read("train")


def test_pairs_with_scores_are_read(tmp_path: Path) -> None:
    found = table(tmp_path, "sentence1,sentence2,score\nje,na,0\nleo,dey,3.8\n")
    assert [one.inputs for one in found] == [
        {"text": "je", "text_pair": "na"}, {"text": "leo", "text_pair": "dey"},
    ]  # fmt: skip
    assert [one.target for one in found] == [0.0, 3.8]
    assert table(tmp_path, "text\nje\nna\n")[1].target is None  # texts alone teach, too


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,score\nje,na,good\n", "line 2|pairs.csv:2.*expected a number, found 'good'"),
        ("a,b,score\nje,na,1\nje,na,\n", "pairs.csv:3.*score is empty"),
        ("a,b,score\nje,na,nan\n", "pairs.csv:2.*expected a number, found 'nan'"),
        ("a,b,score\nje,,1\n", "pairs.csv:2.*b is empty"),
        ("a,b,score\n,na,1\n", "pairs.csv:2.*a is empty"),
    ],
)
def test_a_pair_that_is_none_is_named_by_its_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        table(tmp_path, text, columns={"text": "a", "text_pair": "b"})


def answers(similarities: list[float]) -> Answers:
    none = ((),) * len(similarities)
    return Answers(none, (np.zeros(0),) * len(none),
                   tuple({"similarity": np.float64(one)} for one in similarities))  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_scipys(seed: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    chance = np.random.default_rng(seed)
    right = chance.integers(0, 6, 40).astype(float)  # with ties
    said = right + chance.normal(size=40).round(seed)
    examples = [Example({"text": "a", "text_pair": "b"}, float(one)) for one in right]
    examples.append(Example({"text": "a", "text_pair": "nobody scored this"}))
    examples.append(Example({"text": "a score, and no pair"}, 5.0))
    scored = TASK.score(answers([*said, 9.0, np.nan]), examples, ())
    found = {one.metric: one.value for one in scored}
    assert found["spearman"] == pytest.approx(stats.spearmanr(said, right).statistic, abs=1e-12)
    assert found["pearson"] == pytest.approx(stats.pearsonr(said, right).statistic, abs=1e-12)


def test_without_a_scored_pair_nothing_is_judged() -> None:
    with pytest.raises(DataError, match="no example is a pair of texts with a score"):
        TASK.score(answers([0.5]), [Example({"text": "a"})], ())


def test_questions_without_words_are_refused() -> None:
    for question in ("", " \n", {"text": "je", "text_pair": " "}):
        with pytest.raises(DataError, match="is empty, and nothing has no vector"):
            TASK.ask(question)
    with pytest.raises(DataError, match="it takes texts, not text_pair"):
        TASK.ask({"text_pair": "je"})


def test_vectors_are_cut_to_their_first_numbers(tmp_path: Path) -> None:
    from edgecompress.stages.vectors import Vectors

    write_sentence_model(tmp_path / "st", dense=6)
    candidate = imported(tmp_path / "st", tmp_path / "in")
    whole = vectors(candidate, TEXTS)
    made = Vectors(dimensions=4).apply(candidate, small_context(tmp_path / "cut"))
    first = whole[:, :4] / np.linalg.norm(whole[:, :4], axis=1, keepdims=True)
    assert np.allclose(vectors(made, TEXTS), first, atol=1e-6)
    assert "first 4 numbers of 6" in Vectors.tell(made.steps[-1])
    with pytest.raises(StageError, match="its vectors have 4 numbers, and dimensions 5"):
        Vectors(dimensions=5).apply(made, small_context(tmp_path / "more"))


def test_vectors_in_int8_keep_their_cosines() -> None:
    chance = np.random.default_rng(0)
    found = [Prediction({"vector": chance.normal(size=384).tolist()}) for _ in range(8)]
    for one in found:
        assert one.vector_int8 is not None and one.vector_int8.dtype == np.int8
        for other in found:
            exact, near = (cosine(*pair) for pair in ((one.vector, other.vector),
                           (one.vector_int8, other.vector_int8)))  # fmt: skip
            assert abs(exact - near) < 0.01
    assert not np.any(Prediction({"vector": [0.0, 0.0]}).vector_int8)


def test_a_smaller_vocabulary_keeps_prompts_and_what_second_texts_need(tmp_path: Path) -> None:
    from edgecompress.surgery.vocabulary.files import write_trimmed
    from edgecompress.surgery.vocabulary.pieces import read_vocabulary
    from edgecompress.surgery.vocabulary.splitting import split

    folder = trained("wordpiece", tmp_path / "whole")
    write(folder / "config_sentence_transformers.json", {"prompts": {"query": "market "}})
    vocabulary = read_vocabulary(folder / "tokenizer.json")
    write_trimmed(vocabulary, vocabulary.names.values(), folder, tmp_path / "less")
    assert processor_class("sentences").load(tmp_path / "less").prompts == {"query": "market "}
    tokenizer = TextProcessor.load(folder).tokenizer
    one, other = texts(2)
    both = split(tokenizer, [Example({"text": one, "text_pair": other})])
    apart = split(tokenizer, [Example({"text": one}), Example({"text": other})])
    assert both.ids.tolist() == apart.ids.tolist()


def test_pairs_with_scores_teach_vectors(tmp_path: Path) -> None:
    from edgecompress.stages.finetune import Finetune

    write_sentence_model(tmp_path / "st", seed=5)
    candidate = imported(tmp_path / "st", tmp_path / "in")
    records = scored_pairs(90, seed=1)
    pairs = [
        Example({"text": one["text"], "text_pair": one["text_pair"]}, float(one["score"]))
        for one in records
    ]
    # A text alone, or a pair without a score, teaches nothing and does no harm.
    train = (*pairs[:60], Example({"text": "je"}), Example({"text": "je", "text_pair": "na"}))
    context = small_context(tmp_path / "train", train=train, validation=tuple(pairs[60:]))
    made = Finetune(epochs=4, learning_rate=3e-3).apply(candidate, context)

    def quality(candidate: Candidate) -> float:
        from edgecompress.targets.torch_answers import torch_answers

        return TASK.quality(torch_answers(candidate, pairs[60:]), pairs[60:], ())

    assert quality(made) > quality(candidate) + 0.05
    alone = small_context(tmp_path / "alone", train=train[60:])
    with pytest.raises(DataError, match="the training data has no scored pair"):
        Finetune().apply(candidate, alone)


def test_the_order_of_scores_is_what_is_taught() -> None:
    import torch

    vectors = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    scores = torch.tensor([3.0, 1.0, 1.0, 2.0])
    alike = [cosine(vectors[n].numpy(), vectors[n + 1].numpy()) for n in range(0, 8, 2)]
    wrong = [
        np.exp(20 * (alike[i] - alike[j]))
        for i in range(4) for j in range(4) if scores[i] < scores[j]
    ]  # fmt: skip
    found = TASK.loss({"sentence_embedding": vectors}, {"scores": scores})
    assert float(found) == pytest.approx(np.log1p(sum(wrong)), rel=1e-4)
    same = TASK.loss({"sentence_embedding": vectors * 3}, {"scores": scores * 10 - 5})
    assert float(same) == pytest.approx(float(found), rel=1e-4)


def test_vectors_of_other_widths_are_not_compared() -> None:
    import torch

    with pytest.raises(StageError, match=r"vectors of 4 numbers cannot be compared with a .* of 3"):
        TASK.distance(torch.ones(2, 4), torch.ones(2, 3))
    its = torch.nn.functional.normalize(torch.randn(5, 6), dim=-1)
    first = torch.nn.functional.normalize(its[:, :4], dim=-1)
    gaps = first @ first.T - its @ its.T
    apart = TASK.distance(first, its)
    assert torch.allclose(apart, gaps.square().sum(1) / 4, atol=1e-5)  # its first numbers are right
    ours = torch.nn.functional.normalize(torch.randn(5, 4), dim=-1)
    assert float(TASK.distance(ours * 3, ours).abs().max()) < 1e-5  # a vector's length is no matter
    assert issubclass(StageError, EdgeCompressError)
    assert json.dumps(
        TASK.say(
            next(
                iter(
                    Answers(
                        ((),),
                        (np.zeros(0),),
                        ({"vectors": np.ones((1, 2), np.float32), "similarity": np.nan},),
                    )
                )
            ),
            Example({"text": "a"}),
        )
    )


def test_samples_without_scores_are_compared_without_the_metric(tmp_path: Path) -> None:
    from edgecompress.models.outputs import judged

    write_sentence_model(tmp_path / "st")
    processor = processor_class("sentences").load(tmp_path / "st")
    bare = (Example({"text": "je"}),)
    scored = (Example({"text": "je", "text_pair": "na"}, 1.0),)
    assert judged(TASK.rows(bare, processor, ()), bare) == ()
    assert judged(TASK.rows(scored, processor, ()), scored) == scored
