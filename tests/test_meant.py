"""A wrong name gets the right one: every name that a recipe or the command line knows, mistyped."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import in_process

from edgecompress.all_metrics import bounded
from edgecompress.data import data_formats
from edgecompress.stage import stage_modules
from edgecompress.targets.fleet import Fleet
from edgecompress.tasks import task_names
from edgecompress.words import KNOWN, did_you_mean, meant, nearest

KINDS = {
    "stages": list(stage_modules()),
    "tasks": list(task_names()),
    "formats": list(data_formats()),
    "metrics": [one.name for one in bounded()],
}


def mistyped(name: str) -> list[str]:
    """Give what hands make of a name: other signs between words, capitals, wrong letters."""
    middle = len(name) // 2
    swapped = name[: middle - 1] + name[middle] + name[middle - 1] + name[middle + 1 :]
    return [
        name.upper(),
        name.replace("-", "_").replace(".", "_"),
        name.replace("_", "-").replace(".", "-"),
        name.title().replace("-", ""),
        swapped,
        name[:middle] + name[middle + 1 :],
        name[:middle] + name[middle] + name[middle:],
        name.replace("iz", "is"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_is_found_however_it_is_mistyped(kind: str) -> None:
    known = KINDS[kind]
    lost = [
        (name, wrong, nearest(wrong, known))
        for name in known
        if len(name) > 4
        for wrong in mistyped(name)
        if wrong not in known and name not in nearest(wrong, known)
    ]
    assert not lost


def test_a_part_of_a_name_finds_all_that_have_it() -> None:
    assert set(nearest("prune", KINDS["stages"])) == {
        name for name in KINDS["stages"] if name.startswith("prune.")
    }
    assert nearest("static", KINDS["stages"])[0] == "quantize.static"
    assert nearest("f1_score", KINDS["metrics"]) == ["f1"]
    assert nearest("acc", KINDS["metrics"])[0] == "accuracy"


def test_what_nothing_is_like_gets_the_list() -> None:
    assert did_you_mean("zzz", KINDS["tasks"]) == ""
    assert meant("zzz", ["b", "a"]) == "; there are b, a"
    assert meant("zzz", {"b", "a"}) == "; there are a, b"
    many = [f"layer{number}" for number in range(KNOWN + 1)]
    assert meant("zzz", many).endswith(f"and {KNOWN - 7} more")
    assert meant("zzz", []) == ""
    assert nearest("", ["a"]) == nearest("--", ["a"]) == []


def test_letters_of_any_script_are_letters() -> None:
    assert nearest("заголовк", ["заголовок", "метка"]) == ["заголовок"]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("locl", "local"),
        ("cortex-a72", "emulated://cortex-a72"),
        ("emulate://cortex-a72", "emulated://cortex-a72"),
        ("pi@board", "ssh://pi@board"),
        ("ssh:/pi@board:22", "ssh://pi@board:22"),
    ],
)
def test_a_target_is_found_by_what_its_url_means(wrong: str, right: str) -> None:
    with pytest.raises(Exception, match=f"; did you mean '{right}'") as found:
        Fleet().find(wrong)
    assert type(found.value).__name__ == "RecipeError"


RECIPE = """\
name: r
task: text-classification
teacher: {model: teacher}
data: {format: csv, train: [a.csv], validation: [b.csv], test: [c.csv]}
stages: [export, quantize.dynamic]
budget: {accuracy: {max_drop: 1%}}
"""


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("task=ner", "'token-classification'"),
        ("task=sentiment-analysis", "'text-classification'"),
        ("task=sst2", "'text-classification'"),
        ("task=fill-mask", "'masked-lm'"),
        ("data.format=json", "'jsonl'"),
        ("data.format=conll2003", "'conll'"),
        ("data.rot=x", "'root'"),
        ("stages=[export, int8]", "'quantize.dynamic' or 'quantize.static'"),
        ("stages=[export, fp16]", "'quantize.half'"),
        ("stages=[export, {quantize.weights: {method: gtpq}}]", "'gptq'"),
        ("observers=[sensitivty]", "'sensitivity'"),
        ("budget={f1-score: {max: 1}}", "'f1'"),
        ("budget={memory: {max: 1}}", "'peak_memory'"),
        ("minimize=Peak memory", "'peak_memory'"),
        ("targets=[Local]", "'local'"),
        ("stages.quantize.dynamc.per_channel=true", "'quantize.dynamic'"),
        ("stages.dynamic.per_channel=true", "'quantize.dynamic'"),
    ],
)
def test_a_recipe_is_told_what_others_names_are_called_here(
    tmp_path: Path, setting: str, said: str
) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE, encoding="utf-8")
    for name in "abc":
        text = f"text,label\n{name} one,x\n{name} two,y\n"
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    done = in_process("check", tmp_path / "r.yaml", "--set", setting)
    assert done.returncode == 2
    assert said in done.stderr.partition("; did you mean")[2], done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("quantise", "'quantize'"),
        ("verify", "'bundle verify'"),
        ("info", "'bundle show'"),
        ("benchmark", "'profile'"),
        ("help", "'--help'"),
        ("bundle compare", "'diff'"),
        ("targets prepair", "'prepare'"),
        ("quantize m -o x --scheme dinamic", "'dynamic'"),
        ("quantize m -o x --scheme fp16", "'half'"),
        ("quantize m -o x --scheme quantize.static", "'static'"),
        ("prune m -o x --method heads", "'structured'"),
        ("quantize m -o x --schema dynamic", "'--scheme'"),
        ("run m --out x", "'--output'"),
        ("stages dyanmic", "'quantize.dynamic'"),
    ],
)
def test_the_command_line_is_told_too(arguments: str, said: str) -> None:
    done = in_process(*arguments.split())
    assert done.returncode == 2
    assert said in done.stderr.partition("; did you mean")[2], done.stderr


def test_an_argument_that_is_given_as_an_option_is_told_how() -> None:
    done = in_process("quantize", "--model", "x")
    assert "no option --model; write MODEL without it: " in done.stderr


def test_a_mistyped_bundle_is_found_beside(tmp_path: Path) -> None:
    (tmp_path / "reviews").mkdir()
    (tmp_path / "reviews" / "core.sha256").touch()
    (tmp_path / "revues").mkdir()  # holds none
    for command in (["predict", "reveiws", "hi"], ["bundle", "verify", "reveiws"]):
        done = in_process(*command, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr == "edgecompress: reveiws: no such directory; did you mean 'reviews'?\n"
