"""distil in a recipe: relative paths of its teachers and its texts."""

from edgecompress.engine.recipe import load_recipe

RECIPE = """
name: several
task: token-classification
teacher: {model: base}
data: {format: conll, root: data, train: [hau/train.txt]}
stages:
  - distil:
      teachers: [{model: hausa, sources: [hau]}, {weight: 0.5}]
      transfer: {corpus: [more.txt]}
  - export
"""


def test_paths_are_those_beside_the_recipe(tmp_path):
    for folder in ("base", "hausa", "data/hau"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data" / "more.txt").write_text("ta je Kano\n", encoding="utf-8")
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(file)
    stage = recipe.chains[0][0].stage
    assert [use.model for use in stage.teachers] == [str(tmp_path / "hausa"), None]
    assert stage.transfer.corpus[0].file == tmp_path / "data" / "more.txt"
    written = recipe.written["stages"][0]["distil"]
    assert written["teachers"][0]["model"] == "hausa"
