"""A head that nobody trained never teaches, and a trained one is never drawn anew."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from checkpoints import FAMILIES, HEADS, write_checkpoint
from helpers import labelled_texts, tagged_examples

from edgecompress.errors import DataError
from edgecompress.surgery.model import load_module
from edgecompress.texts import label_of, text_example, text_of
from edgecompress.training.heads import (
    HeadRules,
    LabelsError,
    alike_names,
    check_labels,
    line,
    renamed,
    untrained,
)
from edgecompress.training.label_proposal import propose
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate

LABELS = {
    "text-classification": ("person", "place", "thing"),
    "token-classification": ("O", "B-LOC", "B-PER"),
    "masked-lm": (),
}
UNNAMED = ("LABEL_0", "LABEL_1", "LABEL_2")
NAMES = (
    None,
    UNNAMED,
    ("PERSON", "PLACE", "THING"),
    ("a", "b"),
    ("a", "b", "c", "d"),
    ("LABEL_0",),
)
"""Of a checkpoint's classes; None: the data's labels."""


def outcome(folder: Path, module: torch.nn.Module, task: str, into: Path, rules: HeadRules) -> str:
    """Import a checkpoint and say what became of its head: kept, new, or the refusal's text."""
    try:
        made = import_teacher(str(folder), task, LABELS[task], into, rules=rules)
    except DataError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
        return f"refused: {error}"
    found = load_module(made.model)
    before, after = module.state_dict(), found.state_dict()
    body = f"{module.base_model_prefix}."
    head = [name for name in before if not name.startswith(body)]
    same = all(name in after and torch.equal(after[name], before[name]) for name in head)
    if not head or not same or type(found) is not type(module):
        return "new"
    wanted = renamed(tuple(module.config.id2label.values()), rules.renaming)
    assert made.labels == (wanted if LABELS[task] else ())
    assert set(LABELS[task]) <= set(made.labels)
    return "kept"


@pytest.mark.parametrize("task", LABELS)
@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_kept_refused_or_trained_later(head: str, task: str, tmp_path: Path):
    """Random families, shapes and names of classes."""
    chance = random.Random(f"{head} {task}")
    kept = refused = 0
    for number in range(4 if head == task else 1):
        family = chance.choice(FAMILIES)
        classes = chance.choice(NAMES) if head != task or number else None
        names = classes or LABELS[task] or UNNAMED
        folder = tmp_path / f"{number}"
        module = write_checkpoint(folder, family, head, names, seed=chance.randrange(99))
        fits = head == task and (not LABELS[task] or set(LABELS[task]) <= set(names))
        for later in (False, True):
            for renaming in (None, "new", dict(zip(names, LABELS[task] or names, strict=False))):
                rules = HeadRules(later, "train it", renaming)
                into = tmp_path / f"{number} {later} {kept} {refused} {type(renaming)}"
                found = outcome(folder, module, task, into, rules)
                said = (family, names, later, renaming, found)
                mapped = renaming and renaming != "new" and len(names) >= len(LABELS[task])
                unwanted = renaming is not None and not LABELS[task]
                usable = not unwanted and head == task and (fits or mapped)
                usable = usable and (len(names) > 1 or not LABELS[task])
                if renaming != "new" and usable:
                    assert found == "kept", said
                elif not later:
                    assert found.startswith("refused"), said
                elif unwanted:
                    assert "masked-lm has no classes" in found, said
                elif head == task and renaming != "new" and len(names) > 1:
                    assert found.startswith("refused") and "labels: new" in found, said
                else:
                    assert found == "new" or found.startswith("refused"), said
                kept += found == "kept"
                refused += found.startswith("refused")
    assert refused and (kept or head != task)


def test_a_config_without_architectures_does_not_say_what_its_head_is_for(tmp_path: Path):
    """BERT's heads for texts and for words are tensors of the same names and shapes."""
    write_checkpoint(tmp_path / "m", "Bert", "text-classification", LABELS["token-classification"])
    file = tmp_path / "m" / "config.json"
    document = json.loads(file.read_text())
    del document["architectures"]
    file.write_text(json.dumps(document))
    with pytest.raises(DataError, match="names no `architectures`"):
        import_teacher(str(tmp_path / "m"), "token-classification", None, tmp_path / "t")


def lookup_classifier(tmp_path: Path, task: str, names: tuple[str, ...]) -> Candidate:
    """Make a real head that knows the data, and call its classes by `names`."""
    from helpers import small_context, tiny_teacher

    from edgecompress.stages.finetune import Finetune

    examples = labelled_texts(150) if task == "text-classification" else tagged_examples(150)
    made = tiny_teacher(tmp_path / "made", examples, task, layers=1)
    context = small_context(tmp_path, train=examples, validation=examples[:40])
    trained = Finetune(epochs=6, learning_rate=1e-2).apply(made, context)
    return Candidate(trained.model, made.preprocessor, task, names)


@pytest.mark.parametrize(
    ("task", "names", "truth"),
    [
        ("text-classification", ("LABEL_0", "LABEL_1"), ("person", "place")),
        ("token-classification", ("LABEL_0", "LABEL_1", "LABEL_2"), ("O", "B-LOC", "B-PER")),
    ],
)
def test_the_data_propose_which_class_is_which(task, names, truth, tmp_path: Path):
    trained = lookup_classifier(tmp_path, task, names)
    examples = (labelled_texts if task == "text-classification" else tagged_examples)(80, 5)
    folder = tmp_path / "teacher"
    folder.mkdir()
    for part in (trained.model.directory, trained.preprocessor):
        for file in part.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    document = json.loads((folder / "config.json").read_text())
    document["id2label"] = dict(enumerate(names))
    (folder / "config.json").write_text(json.dumps(document))
    rules = HeadRules(where=" under `teacher`", examples=examples)
    with pytest.raises(LabelsError) as told:
        import_teacher(str(folder), task, truth, tmp_path / "a", rules=rules)
    proposed = line(dict(zip(names, truth, strict=True)))
    assert f"writing `{proposed}` under `teacher`" in str(told.value)
    accepted = HeadRules(renaming=dict(zip(names, truth, strict=True)))
    made = import_teacher(str(folder), task, truth, tmp_path / "b", rules=accepted)
    assert made.labels == truth
    # Labels that have nothing to do with the texts confirm nothing.
    shuffled = [label_of(example) for example in examples] or [""]
    random.Random(1).shuffle(shuffled)
    if task == "text-classification":
        pairs = zip(examples, shuffled, strict=True)
        nonsense = [text_example(text=text_of(one), label=label) for one, label in pairs]
        found = propose(made, load_module(made.model), nonsense)
        assert found.mapping == {} and found.asked == len(examples)


def test_names_that_differ_in_writing_are_proposed_without_the_data():
    with pytest.raises(LabelsError, match=r"`labels: \{NEG_ATIVE: negative, 'YES': 'yes'\}`"):
        check_labels(("NEG_ATIVE", "YES"), ("negative", "yes"))
    assert alike_names(("B_PER", "b-per"), ("B-PER",)) == {}
    with pytest.raises(LabelsError, match="too few for the data"):
        check_labels(("a", "b"), ("x", "y", "z"))
    check_labels(("a", "b", "c"), ("a", "b"))
    check_labels(("LABEL_0",), None)


def test_a_name_that_is_wrong_is_refused():
    with pytest.raises(DataError, match="no class 'LABEL_3'; did you mean"):
        renamed(UNNAMED, {"LABEL_3": "x"})
    with pytest.raises(DataError, match="two classes would be called 'LABEL_1'"):
        renamed(UNNAMED, {"LABEL_0": "LABEL_1"})
    assert renamed(UNNAMED, {"LABEL_0": "LABEL_1", "LABEL_1": "LABEL_0"})[:2] == UNNAMED[1::-1]


def test_a_head_that_gives_several_classes_is_none_that_gives_one():
    config = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "rain", "1": "wind"},
        "problem_type": "multi_label_classification",
    }
    assert "any number of classes" in str(untrained(config, "text-classification", None))
    config["problem_type"] = "single_label_classification"
    assert untrained(config, "text-classification", None) is None
