"""Recipes: strict keys with line and nearest, forks, order of stages, settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.engine.matrix import read_matrix
from edgecompress.engine.recipe import build_recipe, load_recipe
from edgecompress.engine.recipe_schema import recipe_schema
from edgecompress.errors import DataError, RecipeError
from edgecompress.resources import resource_folder
from edgecompress.yamlfile import apply_settings, parse_yaml

BASE = """\
name: test
task: token-classification
teacher: {model: some/model}
data: {format: conll, root: data, train: [a.txt], validation: [b.txt], test: [c.txt]}
stages:
  - any:
      - []
      - [prune.structured: {heads: 0.5}, distil: {epochs: 2}]
  - any:
      - [export, quantize.dynamic]
      - [quantize.inc_dynamic]
budget:
  f1: {max_drop: 1%}
  size: {max: 10MB}
  latency_p50@local: {max: 5ms}
"""


def load(text: str, *changes: str):
    source = parse_yaml(text, Path("recipe.yaml"))
    document = apply_settings(source.document, changes)
    return build_recipe(type(source)(document, source.file, source.lines))


def test_forks_expand_in_order_and_get_short_names():
    recipe = load(BASE)
    assert [[use.name for use in chain] for chain in recipe.chains] == [
        ["export", "quantize.dynamic"],
        ["quantize.inc_dynamic"],
        ["prune.structured", "distil", "export", "quantize.dynamic"],
        ["prune.structured", "distil", "quantize.inc_dynamic"],
    ]
    assert len(set(recipe.names)) == 4
    assert [limit.key for limit in recipe.budget] == ["f1", "size", "latency_p50@local"]
    assert recipe.budget[0].max_drop == pytest.approx(0.01)
    assert recipe.budget[1].max == 10e6
    assert recipe.budget[2].max == 5.0


def test_each_is_a_fork_over_the_values_of_a_field():
    recipe = load(BASE.replace("heads: 0.5", "heads: {each: [0, 0.5]}, ffn: {each: [0.2, 0.4]}"))
    pruned = [chain[0].stage for chain in recipe.chains[2::2]]
    assert [(s.heads, s.ffn) for s in pruned] == [(0, 0.2), (0, 0.4), (0.5, 0.2), (0.5, 0.4)]
    assert "prune.structured(heads=0.5,ffn=0.2)+distil+quantize.inc_dynamic" in recipe.names
    changed = load(BASE, "stages.prune.structured.heads={each: [0.25, 0.5, 0.75]}")
    assert len(changed.chains) == 2 + 3 * 2


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("task:", "tusk:", 2, "did you mean 'task'"),
        ("heads: 0.5", "head: 0.5", 8, "did you mean 'heads'"),
        ("heads: 0.5", "heads: {each: [0.5, 7]}", 8, "heads"),
        ("heads: 0.5", "heads: {each: 0.5}", 8, "each wants a list"),
        ("name: test", "name: test\nmatrix: {seed: [1]}", 2, "a matrix of several"),
        ("quantize.dynamic", "quantise.dynamic", 10, "did you mean 'quantize.dynamic'"),
        ("{max: 10MB}", "{max: 10 parsecs}", 14, "unknown unit 'parsecs'"),
        ("{max: 10MB}", "{}", 14, "give a bound"),
        ("{max: 10MB}", "{max: 10MB, each: file}", 14, "not measured of each file"),
        ("{max: 10MB}", "{max: 10MB, each: files}", 14, "did you mean 'file'"),
        ("{max: 10MB}", "[{max: 10MB}, {maks: 1MB}]", 14, "unknown key; there are max"),
        ("{max: 10MB}", "[{max: 10MB}, {min: 1MB}]", 14, "stand twice"),
        ("epochs: 2", "epochs: 2, balance: {}", 8, "changes nothing"),
        ("epochs: 2", "epochs: 2, batch_tokens: 9, balance: {lagging: 4}", 8, "counts rows"),
        ("epochs: 2", "epochs: 1, balance: {lagging: 4}", 8, "at the end of each epoch"),
        ("latency_p50@local", "latency_p50@lokal", 15, "did you mean 'local'"),
        ("[export, quantize.dynamic]", "[quantize.dynamic]", 10, "put export before it"),
        ("[export, quantize.dynamic]", "[export, quantize.inc_dynamic]", 10, "before the export"),
        ("[quantize.inc_dynamic]", "[]", None, "ends in PyTorch"),
        (
            "[export, quantize.dynamic]",
            "[export, quantize.dynamic, quantize.dynamic]",
            10,
            "already",
        ),
        ("{epochs: 2}", "{epochs: two}", 8, "valid integer"),
        ("some/model}", "some/model, new: {}}", 3, "either model or new"),
        ("name: test", "name: ../x", 1, "pattern"),
        ("name: test", "name: test\nname: again", 2, "stands twice"),
        ("token-classification", "token-clasification", 2, "token-classification"),
        ("format: conll", "format: conl", 4, "did you mean 'conll'"),
    ],
)
def test_a_wrong_recipe_names_the_line_and_the_remedy(old, new, line, says):
    text = BASE.replace(old, new, 1)
    with pytest.raises((RecipeError, DataError)) as caught:
        load(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    if line:
        assert f"recipe.yaml:{line}" in str(caught.value)


def test_chains_with_weighed_files_are_told_apart():
    """Chains are kept in sets, and a mapping has no hash by itself."""
    text = BASE.replace("epochs: 2", "epochs: 2, balance: {weights: {a: 2}}")
    assert len({*load(text).chains, *load(text.replace("a: 2", "a: 3")).chains}) == 6


def test_settings_reach_every_field():
    recipe = load(
        BASE,
        "seed=3",
        "teacher.model=other/model",
        "stages.prune.structured.heads=0.25",
        "stages[0].any[1][1].distil.epochs=5",
        "budget.latency_p50@local.max=7ms",
        "data.max_examples=null" if False else "minimize=latency_p50",
    )
    assert recipe.fields.seed == 3
    assert recipe.fields.teacher.model == "other/model"
    assert recipe.chains[2][0].stage.heads == 0.25
    assert recipe.chains[2][1].stage.epochs == 5
    assert recipe.budget[2].max == 7.0


@pytest.mark.parametrize(
    "wrong", ["novalue", "stages.nosuch.x=1", "stages[9].x=1", "name.x=1", "=3"]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(RecipeError):
        load(BASE, wrong)


def test_too_many_forks_are_refused_before_they_are_made():
    fork = "  - any: [export, export, export, export, export, export, export, export]\n"
    with pytest.raises(RecipeError, match="more than 500 candidates"):
        load(BASE.replace("stages:\n", "stages:\n" + fork * 40, 1))


def test_an_alias_bomb_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(RecipeError, match="more than 20000 entries"):
        parse_yaml("\n".join(lines))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["export", "any", "quantize.dynamic", "conll", "local"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["name", "task", "teacher", "model", "data", "format", "stages", "any", "seed",
             "export", "distil", "budget", "size", "max", "targets", "new", "x"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(json_values)
def test_any_document_is_a_recipe_or_a_clear_refusal(document):
    from edgecompress.yamlfile import YamlFile

    try:
        build_recipe(YamlFile(document, None, {}))
    except (RecipeError, DataError) as error:
        assert "\n" not in str(error)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_parses_or_is_refused(text):
    try:
        parse_yaml(text)
    except RecipeError as error:
        assert str(error)


RECIPES = sorted(resource_folder("models").glob("*.yaml"))


@pytest.mark.parametrize("file", RECIPES, ids=lambda f: f.stem)
def test_our_own_recipes_are_right(file):
    matrix = read_matrix(file)
    recipe = matrix.cells[0].recipe if matrix else load_recipe(file)
    assert (matrix.name if matrix else recipe.fields.name) == file.stem
    assert recipe.chains


def test_the_schema_names_every_stage_and_fits_our_recipes():
    schema = recipe_schema()
    text = str(schema)
    for name in ("prune.structured", "quantize.inc_static", "export", "distil"):
        assert name in text
    assert schema["additionalProperties"] is False


def data_errors(data: dict) -> list[str]:
    recipe = {"name": "a", "task": "text-classification", "data": data}
    found = jsonschema.Draft202012Validator(recipe_schema()).iter_errors(recipe)
    return [one.message for each in found for one in (each, *(each.context or ()))]


def test_the_schema_knows_the_keys_of_every_format_and_lets_others_pass():
    for fields in (
        {"format": "conll", "root": "a", "train": "b"},
        {"format": "csv", "train": ["a.csv"], "delimiter": ";", "columns": {"text": "tweet"}},
        {"format": "csv", "train": "a.csv", "split": {"test": 0.1, "group": "author", "seed": 3}},
        {"format": "datasets", "hub": "org/name", "test": "{split}"},
        {"format": "cldr", "max_strings": "{size}"},
        {"format": "somebody-elses", "anything": [1]},
    ):
        assert not data_errors(fields), fields
    for wrong in (
        {"format": "conll", "delimiter": ";"},
        {"format": "csv", "delimiter": 3},
        {"format": "csv", "split": {"test": 2}},
        {"format": "jsonl", "colums": {}},
        {"train": "a.csv"},
    ):
        assert data_errors(wrong), wrong
    for file in RECIPES:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert not data_errors(document.get("data") or {"format": "text"})


def test_checking_needs_no_torch():
    code = (
        "import sys\n"
        "from edgecompress.engine.recipe import load_recipe\n"
        "from edgecompress.engine.recipe_schema import recipe_schema\n"
        "from edgecompress.resources import resource_folder\n"
        "load_recipe(resource_folder('models') / 'quickstart.yaml'); recipe_schema()\n"
        "heavy = {'torch', 'onnxruntime', 'transformers', 'onnx', 'optimum'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
