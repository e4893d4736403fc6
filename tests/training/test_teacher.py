"""Teachers: checkpoints of every form brought into one, and made from nothing."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from helpers import labelled_texts, tagged_examples, tiny_teacher
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from edgecompress.errors import DataError
from edgecompress.processors import TextProcessor
from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
from edgecompress.surgery.model import load_module, save_module
from edgecompress.texts import text_example, words_example, words_of
from edgecompress.training.encoding import make_rows
from edgecompress.training.heads import HeadRules, LabelsError
from edgecompress.training.new_teacher import NewTeacher
from edgecompress.training.teacher import import_teacher
from edgecompress.values import directory_digests

TRAIN = tagged_examples(60, 1)
TASK = "token-classification"
LABELS = ("O", "B-LOC", "B-PER")
LATER = HeadRules(trained_later=True)


@pytest.fixture
def checkpoint(tmp_path):
    """A directory as people have them: model and tokenizer side by side."""
    made = tiny_teacher(tmp_path / "made", TRAIN, TASK, layers=1)
    folder = tmp_path / "checkpoint"
    shutil.copytree(made.model.directory, folder)
    shutil.copytree(made.preprocessor, folder, dirs_exist_ok=True)
    return folder


def change(file, **values):
    document = json.loads(file.read_text())
    document.update(values)
    file.write_text(json.dumps(document))


def test_a_checkpoint_comes_over_unchanged(checkpoint, tmp_path):
    before = directory_digests(checkpoint)
    teacher = import_teacher(str(checkpoint), TASK, LABELS[:2], tmp_path / "t")
    assert teacher.labels == LABELS
    assert directory_digests(checkpoint) == before
    again = import_teacher(str(checkpoint), TASK, None, tmp_path / "again")
    assert directory_digests(tmp_path / "t") == directory_digests(tmp_path / "again")
    plain = transformers.AutoModelForTokenClassification.from_pretrained(
        checkpoint, attn_implementation="eager"
    ).eval()
    ours = load_module(again.model)
    ids = torch.arange(5, 25)[None]
    assert torch.equal(plain(ids).logits, ours(ids).logits)
    rows = make_rows(teacher, TRAIN[:4], ours)
    assert [values.shape[-1] for values in rows.outputs(ours)] == [3] * 4


def test_logits_do_not_depend_on_the_batch(checkpoint, tmp_path):
    teacher = import_teacher(str(checkpoint), TASK, None, tmp_path / "t")
    module = load_module(teacher.model)
    rows = make_rows(teacher, TRAIN[:9], module)
    together = rows.outputs(module)
    for row in range(9):
        with torch.no_grad():
            alone = module(**rows.feed([row])).logits[0].numpy()
        np.testing.assert_allclose(together[row], alone, atol=1e-5)


def test_a_pickle_is_refused_until_it_is_trusted(checkpoint, tmp_path):
    module = load_module(import_teacher(str(checkpoint), TASK, None, tmp_path / "a").model)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"no model\.safetensors"):
        import_teacher(str(checkpoint), TASK, None, tmp_path / "b")
    torch.save(module.state_dict(), checkpoint / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pickle checkpoint refused.*say `trust: pickle`"):
        import_teacher(str(checkpoint), TASK, None, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    trusted = import_teacher(str(checkpoint), TASK, None, tmp_path / "c", trust=True)
    assert (trusted.model.directory / "model.safetensors").is_file()
    ids = torch.arange(5, 25)[None]
    assert torch.equal(load_module(trusted.model)(ids).logits, module(ids).logits)


class Nasty:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a pickle was run')",))


def test_a_trusted_pickle_still_runs_no_code(checkpoint, tmp_path):
    (checkpoint / "model.safetensors").unlink()
    torch.save({"weight": Nasty()}, checkpoint / "pytorch_model.bin")
    with pytest.raises(DataError, match="weights of the teacher"):
        import_teacher(str(checkpoint), TASK, None, tmp_path / "b", trust=True)


@pytest.mark.parametrize("unnamed", [True, False])
def test_labels_without_names_get_a_fresh_head(unnamed, checkpoint, tmp_path):
    named = load_module(import_teacher(str(checkpoint), TASK, None, tmp_path / "n").model)
    if unnamed:  # a trained head is drawn anew only for a person who says so
        change(checkpoint / "config.json", id2label={str(i): f"LABEL_{i}" for i in range(3)})
        task, labels, rules = TASK, LABELS, HeadRules(trained_later=True, renaming="new")
        with pytest.raises(LabelsError, match="say which is which"):
            import_teacher(str(checkpoint), task, labels, tmp_path / "r", rules=LATER)
    else:
        task, labels, rules = "text-classification", ("hau", "swa"), LATER
        with pytest.raises(DataError, match="nobody has trained the head"):
            import_teacher(str(checkpoint), task, labels, tmp_path / "r")
    teachers = [
        import_teacher(str(checkpoint), task, labels, tmp_path / name, seed=5, rules=rules)
        for name in "ab"
    ]
    assert teachers[0].labels == labels
    assert directory_digests(tmp_path / "a") == directory_digests(tmp_path / "b")
    fresh = load_module(teachers[0].model)
    assert fresh.config.id2label == dict(enumerate(labels))
    body, old_body = fresh.base_model.encoder, named.base_model.encoder
    pairs = zip(body.parameters(), old_body.parameters(), strict=True)
    assert all(torch.equal(ours, its) for ours, its in pairs)
    assert not torch.equal(fresh.classifier.weight[:2], named.classifier.weight[:2])
    with pytest.raises(DataError, match="no head for this task"):
        import_teacher(str(checkpoint), "text-classification", None, tmp_path / "c", rules=LATER)


def test_weights_that_a_checkpoint_lacks_are_not_drawn_at_random(checkpoint, tmp_path):
    file = checkpoint / "model.safetensors"
    whole = load_file(file)
    for gone in ("bert.encoder.layer.0.output.dense.weight", "classifier.bias"):
        save_file({key: value for key, value in whole.items() if key != gone}, file)
        with pytest.raises(DataError, match=f"do not fit its config.json: {gone}"):
            import_teacher(str(checkpoint), TASK, None, tmp_path / "t")


def test_a_pruned_model_can_teach(checkpoint, tmp_path):
    module = load_module(import_teacher(str(checkpoint), TASK, None, tmp_path / "t").model)
    keep_heads_and_neurons(module, [[1]], [range(9)])
    save_module(module, checkpoint)
    teacher = import_teacher(str(checkpoint), TASK, None, tmp_path / "p")
    ids = torch.arange(5, 25)[None]
    assert torch.equal(load_module(teacher.model)(ids).logits, module(ids).logits)


@pytest.mark.parametrize("task", ["token-classification", "text-classification"])
def test_a_language_model_gets_a_head(task, checkpoint, tmp_path):
    config = load_module(import_teacher(str(checkpoint), TASK, None, tmp_path / "t").model).config
    language_model = transformers.BertForMaskedLM(config)
    language_model.save_pretrained(checkpoint)
    labels = ("LABEL_0", "LABEL_1")
    teacher = import_teacher(str(checkpoint), task, labels, tmp_path / "n", rules=LATER)
    module = load_module(teacher.model)
    assert module.classifier.out_features == 2
    pairs = zip(
        module.bert.encoder.parameters(), language_model.bert.encoder.parameters(), strict=True
    )
    assert all(torch.equal(ours, its) for ours, its in pairs)


def test_unnamed_labels_stay_without_data(checkpoint, tmp_path):
    names = {str(index): f"LABEL_{index}" for index in range(3)}
    change(checkpoint / "config.json", id2label=names)
    teacher = import_teacher(str(checkpoint), TASK, None, tmp_path / "t")
    assert teacher.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_hidden_limits_of_the_tokenizer_go(checkpoint, tmp_path):
    """Truncation and padding saved into tokenizer.json would cut texts silently."""
    file = checkpoint / "tokenizer.json"
    change(
        file,
        truncation={
            "max_length": 4,
            "strategy": "LongestFirst",
            "stride": 0,
            "direction": "Right",
        },
    )
    change(checkpoint / "tokenizer_config.json", model_max_length=10**30, max_length=4)
    teacher = import_teacher(str(checkpoint), TASK, None, tmp_path / "t")
    written = json.loads((teacher.preprocessor / "tokenizer.json").read_text())
    assert written["truncation"] is None
    preprocessor = TextProcessor.load(teacher.preprocessor)
    assert preprocessor.max_length == 32
    assert set(preprocessor.input_names) == {"input_ids", "token_type_ids", "attention_mask"}


def test_roberta_positions_begin_behind_the_padding(checkpoint, tmp_path):
    config = transformers.XLMRobertaConfig(
        vocab_size=130,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=26,
        id2label=dict(enumerate(LABELS)),
    )
    transformers.XLMRobertaForTokenClassification(config).save_pretrained(checkpoint)
    (checkpoint / "surgery.json").unlink(missing_ok=True)
    teacher = import_teacher(str(checkpoint), TASK, LABELS, tmp_path / "t")
    preprocessor = TextProcessor.load(teacher.preprocessor)
    assert preprocessor.max_length == 24
    module = load_module(teacher.model)
    long = (words_of(tagged_examples(1, 3)[0]) * 20)[:60]
    rows = make_rows(teacher, [words_example(long)], module)
    assert len(rows) > 1
    assert all(np.isfinite(values).all() for values in rows.outputs(module))


def test_what_is_missing_or_does_not_fit_is_named(checkpoint, tmp_path):
    def refused(message, model=str(checkpoint)):
        with pytest.raises(DataError, match=message):
            import_teacher(model, TASK, LABELS, tmp_path / "t")

    refused("must be a directory or a hub id", str(tmp_path / "nowhere"))
    refused("must be a directory or a hub id", str(checkpoint / "config.json"))
    saved = (checkpoint / "tokenizer.json").read_bytes()
    (checkpoint / "tokenizer.json").write_text('{"model": 7}')
    refused("tokenizer of .* cannot be read")
    (checkpoint / "tokenizer.json").unlink()
    refused("checkpoint: the teacher's directory has no tokenizer")
    (checkpoint / "tokenizer.json").write_bytes(saved)
    module = load_module(tiny_teacher(tmp_path / "s", TRAIN[:2], TASK, vocabulary=64).model)
    module.save_pretrained(checkpoint)
    refused("pieces but the model's embedding only")
    (checkpoint / "model.safetensors").write_bytes(b"no")
    refused("weights of the teacher .* cannot be read")
    change(checkpoint / "config.json", model_type="nobody")
    refused("no configuration that can be read .*nobody")
    (checkpoint / "config.json").write_text("{")
    refused("no configuration that can be read")
    (checkpoint / "config.json").unlink()
    refused(r"no config\.json")


@pytest.mark.parametrize("tokenizer", ["wordpiece", "bpe"])
def test_a_new_teacher_is_the_same_each_time(tokenizer, tmp_path):
    texts = labelled_texts(80, 1)
    shape = NewTeacher(
        layers=1, hidden_size=16, heads=2, intermediate_size=32, vocabulary=90, tokenizer=tokenizer
    )
    made = [
        shape.make(texts, "text-classification", ("person", "place"), tmp_path / name, seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    digests = [directory_digests(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[1]
    same = {name for name in digests[0] if digests[0][name] == digests[2][name]}
    assert set(digests[0]) - same == {"model/model.safetensors"}
    preprocessor = TextProcessor.load(made[0].preprocessor)
    assert preprocessor.max_length == 128
    assert preprocessor.vocabulary_size <= 90
    (ids,) = preprocessor.encode_text(["Amina leo"])
    assert preprocessor.tokenizer.decode(ids.tolist()) == "Amina leo"


def test_tone_marks_are_kept_and_case_is_folded_on_demand(tmp_path):
    texts = [text_example(f"Ọ̀rọ̀ Yorùbá {word}") for word in ("ni", "Ni", "ńlá")]
    for lowercase in (True, False):
        shape = NewTeacher(layers=1, hidden_size=16, heads=2, vocabulary=200, lowercase=lowercase)
        folder = tmp_path / str(lowercase)
        made = shape.make(texts, "text-classification", ("a", "b"), folder, 1)
        preprocessor = TextProcessor.load(made.preprocessor)
        ids = preprocessor.encode_text(["Yorùbá", "yorùbá", "Yoruba"])
        assert np.array_equal(ids[0], ids[1]) is lowercase
        assert not np.array_equal(ids[0], ids[2])


def test_new_teachers_are_checked():
    with pytest.raises(ValidationError, match=r"heads \(3\) must divide hidden_size"):
        NewTeacher(heads=3)
    with pytest.raises(DataError, match="no text"):
        NewTeacher()._train_tokenizer([text_example("")])


VIT = {"model_type": "vit", "image_size": 16, "patch_size": 8, "hidden_size": 16,
       "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}  # fmt: skip
HALVES = {"image_mean": 0.5, "image_std": 0.5}


def test_a_new_model_of_images_is_the_same_each_time(tmp_path):
    from edgecompress.processors.image import ImageProcessor

    shape = NewTeacher(config=VIT, preprocessor=HALVES)
    made = [
        shape.make((), "image-classification", ("a", "b"), tmp_path / name, seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    digests = [directory_digests(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[1]
    assert {name for name in digests[0] if digests[0][name] != digests[2][name]} == {
        "model/model.safetensors"
    }
    found = ImageProcessor.load(made[0].preprocessor)
    assert found.input_names == ("pixel_values",) and found.settings.size == (16, 16)
    assert load_module(made[0].model).config.id2label == {0: "a", 1: "b"}


def test_a_new_model_of_texts_may_be_another_than_a_bert(tmp_path):
    small = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
    shape = NewTeacher(config={"model_type": "distilbert", **small}, vocabulary=90, max_length=40)
    made = shape.make(
        labelled_texts(40, 1), "text-classification", ("person", "place"), tmp_path, 1
    )
    config = load_module(made.model).config
    assert (config.model_type, config.max_position_embeddings) == ("distilbert", 40)
    assert config.vocab_size == TextProcessor.load(made.preprocessor).vocabulary_size


@pytest.mark.parametrize(
    ("fields", "task", "said"),
    [
        ({}, "image-classification", "unless config says what it is"),
        ({"config": VIT}, "image-classification", "image_mean is missing"),
        (
            {"config": VIT, "preprocessor": {"sise": 3}},
            "image-classification",
            "did you mean 'size'",
        ),
        ({"config": VIT, "lowercase": True}, "image-classification", "lowercase is of texts"),
        ({"preprocessor": HALVES}, "text-classification", "leave preprocessor out"),
    ],
)
def test_what_a_new_model_needs_is_said_before_it_is_made(fields, task, said):
    with pytest.raises(DataError, match=said):
        NewTeacher(**fields).check(task)


def test_what_transformers_cannot_make_is_one_sentence(tmp_path):
    for number, change in enumerate(({"model_type": "vitt"}, {"patch_size": 0})):
        shape = NewTeacher(config={**VIT, **change}, preprocessor=HALVES)
        with pytest.raises(DataError, match="transformers cannot make this model") as refused:
            shape.make((), "image-classification", ("a",), tmp_path / str(number), 1)
        assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(ValidationError, match="hidden_size is of the BERT"):
        NewTeacher(config=VIT, hidden_size=8)
    with pytest.raises(ValidationError, match="model_type: vit"):
        NewTeacher(config={"hidden_size": 8})
