"""A learning rate that no training survives, from the command line: what is said, what is kept."""

import pytest
from helpers import tagged_examples, tiny_teacher

from edgecompress.cli.main import main
from edgecompress.report.document import from_json
from edgecompress.texts import tags_of, words_of

RECIPE = """\
name: diverging
task: token-classification
model: model
data: {{format: conll, root: {root}, train: train.txt, validation: dev.txt, test: test.txt}}
stages:
  - any: [[], [finetune: {{learning_rate: 1.0e+30}}]]
  - export
profile:
  {{min_duration_ms: 100, warmup_ms: 5, max_warmup_ms: 50, min_count: 40, cold_starts: 0,
   attempts: 1}}
minimize: size
"""


def command(*arguments):
    """Run a command in this process; gives its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


@pytest.fixture
def place(tmp_path):
    for seed, name in enumerate(("train", "dev", "test"), 1):
        sentences = [
            "".join(f"{word} {tag}\n" for word, tag in zip(words_of(e), tags_of(e), strict=True))
            for e in tagged_examples(40, seed)
        ]
        (tmp_path / f"{name}.txt").write_text("\n".join(sentences))
    examples = tagged_examples(40, 1)
    tiny_teacher(tmp_path / "model", examples, "token-classification").save(tmp_path / "model")
    return tmp_path


def test_one_sentence_says_where_and_what_to_try(place, capsys):
    files = ["--format", "conll", "--train", place / "train.txt"]
    files += ["--validation", place / "dev.txt", "--test", place / "test.txt"]
    arguments = ["finetune", place / "model", *files, "--store", place / "store"]
    assert command(*arguments, "-o", place / "bad", "--set", "learning_rate=1e30") == 1
    said = [line for line in capsys.readouterr().err.splitlines() if "diverged" in line]
    assert len(said) == 1
    assert said[0].startswith("edgecompress: training diverged: the ")
    assert "in epoch 1, batch 2 of 3 (" in said[0]
    assert "lower learning_rate (1e+30)" in said[0]
    assert not (place / "bad").exists()
    assert command(*arguments, "-o", place / "good", "--set", "epochs=1") == 0
    assert (place / "good" / "model" / "model.safetensors").is_file()


def test_the_other_branches_of_a_run_go_on(place):
    (place / "recipe.yaml").write_text(RECIPE.format(root=place))
    store = ("--store", place / "store")
    assert command("run", place / "recipe.yaml", "-o", place / "out", *store) == 0
    result = from_json((place / "out" / "results.json").read_text())
    errors = {row.name: row.error for row in result.rows if row.kind == "candidate"}
    failed = [name for name, error in errors.items() if error]
    assert len(errors) == 2
    assert len(failed) == 1
    assert failed[0].startswith("finetune")
    assert "training diverged" in errors[failed[0]]
    assert result.winner not in failed
    assert result.winner is not None
