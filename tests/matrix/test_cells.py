"""From a recipe with a matrix to recipes: placeholders, fields, names, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecompress.engine.matrix import read_matrix, select
from edgecompress.engine.matrix.cells import fill
from edgecompress.errors import RecipeError
from edgecompress.resources import resource_folder


def changed(place: Path, old: str, new: str) -> Path:
    file = place / "changed.yaml"
    text = (place / "mini.yaml").read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    return file


def test_a_cell_is_an_ordinary_recipe(place: Path) -> None:
    matrix = read_matrix(place / "mini.yaml")
    assert matrix is not None
    assert [cell.name for cell in matrix.cells] == ["one-1", "one-2", "two-1", "two-2"]
    assert matrix.constants == {"ffn": 0.5}
    third = matrix.cells[2]
    assert third.values == {"language": "two", "seed": 1}
    assert third.recipe.fields.seed == 1
    assert third.recipe.fields.name == "mini-two-1"
    assert third.recipe.data is not None
    assert [path.name for path in third.recipe.data.files("test")] == ["test.txt"]
    assert third.recipe.data.files("test")[0].parent.name == "two"
    # A path with a placeholder is looked for beside the recipe, once it is filled in.
    assert third.recipe.fields.teacher is not None
    assert third.recipe.fields.teacher.model == str((place / "model-two").resolve())
    assert third.recipe.chains[0][0].stage.model_dump()["ffn"] == 0.5


def test_a_recipe_without_a_matrix_is_none(place: Path) -> None:
    file = place / "plain.yaml"
    file.write_text("name: plain\n")
    assert read_matrix(file) is None


def test_settings_reach_axes_constants_and_cells(place: Path) -> None:
    settings = ("matrix.language=[two]", "matrix.ffn=0.25", "name=mini-{language}", "threads=1")
    matrix = read_matrix(place / "mini.yaml", settings)
    assert matrix is not None
    assert [cell.recipe.fields.name for cell in matrix.cells] == ["mini-two", "mini-two"]
    assert matrix.cells[0].recipe.fields.threads == 1
    assert matrix.cells[0].recipe.chains[0][0].stage.model_dump()["ffn"] == 0.25
    assert matrix.name == "mini"


def test_a_placeholder_alone_keeps_the_type() -> None:
    given = {"n": 3, "language": "hau"}
    document = {"a": ["{n}", "{n} of {language}", "{other}"], "b": {"c": "{language}/train.txt"}}
    assert fill(document, given) == {
        "a": [3, "3 of hau", "{other}"],
        "b": {"c": "hau/train.txt"},
    }


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("{language}/dev", "{langage}/dev", 12, "unknown placeholder {langage}; did you mean"),
        ("ffn: 0.5", "fnn: 0.5", 15, "unknown placeholder {ffn}"),
        ("ffn: 0.5", "ffn: 0.5\n  epochs: 3", 6, "nothing in the recipe depends on this"),
        ("seed: [1, 2]", "seed: [1, 1]", 4, "stands twice"),
        ("seed: [1, 2]", "seed: []", 4, "no values"),
        ("seed: [1, 2]", "seed: [[1], 2]", 4, "a value is text"),
        ("seed: [1, 2]", "seed: [-1]", None, "(cell one-1)"),
        ("[one, two]", "[a/one, b/one]", 2, "two cells would be called 'one-1'"),
        ("[one, two]", "[one, '{seed}']", 3, "cannot hold a placeholder"),
        ("ffn: 0.5", "budget: 0.5", 5, "budget of a recipe cannot be set by an axis"),
        ("task:", "seed: 3\ntask:", 6, "the matrix sets seed"),
        ("seed: [1, 2]", f"seed: {list(range(251))}", 2, "502 cells; 500 is the most"),
        ("heads: 0,", "heds: 0,", 15, "did you mean 'heads'"),
        ("export", "exprt", 16, "(cell one-1)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(
    place: Path, old: str, new: str, line: int | None, says: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        read_matrix(changed(place, old, new))
    assert says in str(caught.value)
    if line is not None:
        assert caught.value.line == line, str(caught.value)


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ((), ["one-1", "one-2", "two-1", "two-2"]),
        (("language=two",), ["two-1", "two-2"]),
        (("language=two,seed=2",), ["two-2"]),
        (("language=two", "seed=2"), ["two-2"]),
        (("language=one,language=two", "seed=1"), ["one-1", "two-1"]),
    ],
)
def test_a_part_of_the_cells(place: Path, only: tuple[str, ...], names: list[str]) -> None:
    matrix = read_matrix(place / "mini.yaml")
    assert matrix is not None
    assert [cell.name for cell in select(matrix, only)] == names


@pytest.mark.parametrize(
    ("only", "says"),
    [
        ("langage=one", "did you mean 'language'"),
        ("language=on", "did you mean 'one'"),
        ("one", "wants AXIS=VALUE"),
        ("ffn=0.5", "no axis 'ffn'"),
    ],
)
def test_a_part_that_is_not_there(place: Path, only: str, says: str) -> None:
    matrix = read_matrix(place / "mini.yaml")
    assert matrix is not None
    with pytest.raises(RecipeError, match=says):
        select(matrix, (only,))


KINDS = """\
name: kinds
matrix:
  kind:
    words: {task: token-classification, data: {format: conll, train: one/train.txt}, cut: [export]}
    texts: {task: text-classification, data: {format: csv, train: a.csv}, cut: [export, fuse]}
  seed: [1, 2]
teacher: {model: model-one}
data: "{data}"
stages: [{any: ["{cut}", [quantize.inc_dynamic]]}]
"""


def kinds(place: Path, old: str = "", new: str = "") -> Path:
    assert old in KINDS
    (place / "kinds.yaml").write_text(KINDS.replace(old, new, 1))
    (place / "a.csv").write_text("text,label\nje,a\nna,b\n")
    return place / "kinds.yaml"


def test_named_values_bring_whole_parts_of_a_recipe(place: Path) -> None:
    matrix = read_matrix(kinds(place, "[export]", "[export: {opset: 17}]"))
    assert matrix is not None
    assert matrix.axes == {"kind": ("words", "texts"), "seed": (1, 2)}
    assert [cell.name for cell in matrix.cells] == ["words-1", "words-2", "texts-1", "texts-2"]
    first, third = matrix.cells[0].recipe, matrix.cells[2].recipe
    assert (first.fields.task, third.fields.task) == ("token-classification", "text-classification")
    assert first.data is not None and first.data.files("train")[0] == Path("one/train.txt")
    assert first.chains[0][0].stage.model_dump()["opset"] == 17
    assert [chain[-1].name for chain in third.chains] == [
        "fuse",
        "quantize.inc_dynamic",
    ]
    settings = ("matrix.kind.texts.task=masked-lm",)
    changed = read_matrix(kinds(place), settings)
    assert changed is not None and changed.cells[3].recipe.fields.task == "masked-lm"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        (
            ", cut: [export, fuse]",
            "",
            5,
            "texts and words must bring the same names; not both bring 'cut'",
        ),
        ("cut: [export, fuse]", "cut: ['{seed}']", 5, "cannot hold a placeholder"),
        ("[export]", "[exprt]", None, "(cell words-1)"),
        ("cut: [export, fuse]", "seed: 1", 5, "must bring the same names"),
        ('["{cut}", [quantize', "[[quantize", 4, "nothing in the recipe depends on this"),
        (
            "cut: [export, fuse]}",
            "cut: []}\n    more: 3",
            6,
            "brings further ones: a mapping of names",
        ),
        ("[1, 2]", "{one: {cut: 3}}", 6, "cut is taken already"),
    ],
)
def test_what_is_wrong_with_named_values_is_said(
    place: Path, old: str, new: str, line: int | None, says: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        read_matrix(kinds(place, old, new))
    assert says in str(caught.value)
    if line is not None:
        assert caught.value.line == line, str(caught.value)


def test_the_study_that_we_ship() -> None:
    matrix = read_matrix(resource_folder("models") / "compression-study.yaml")
    assert matrix is not None
    assert [*matrix.axes["kind"]] == ["language", "images", "detection", "generation"]
    for cell in matrix.cells:
        stages = {tuple(use.name for use in chain) for chain in cell.recipe.chains}
        graph = () if cell.name == "detection" else ("export",)
        for last in ((), ("quantize.half",), ("quantize.dynamic",)):
            assert {(*graph, *last), ("prune.magnitude", *graph, *last)} <= stages
        last = "quantize.cache" if cell.name == "generation" else "quantize.static"
        assert (*graph, last) in stages


def test_the_battery_that_we_ship() -> None:
    matrix = read_matrix(resource_folder("models") / "small-made-smaller.yaml")
    assert matrix is not None
    assert len(matrix.cells) == 30
    recipe = matrix.cells[0].recipe
    stages = [[use.name for use in chain] for chain in recipe.chains]
    assert ["finetune", "prune.magnitude", "export"] in stages
    assert ["prune.magnitude", "finetune", "export"] in stages
    shares = [
        use.stage.model_dump()["sparsity"]
        for chain in recipe.chains
        for use in chain
        if use.name == "prune.magnitude"
    ]
    assert sorted(set(shares)) == [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    # Every chain's own fine-tuning is the teacher's, so that the store makes it once.
    assert recipe.fields.teacher is not None
    tuned = recipe.fields.teacher.finetune
    first = recipe.chains[0][0].stage.model_dump(exclude_unset=True)
    assert first == tuned
    assert recipe.fields.model == recipe.fields.teacher.model
