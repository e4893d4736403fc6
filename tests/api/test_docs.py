"""docs/python.md runs as it stands, and what its results print and show holds what was found."""

from __future__ import annotations

import html
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import tagged_examples, tiny_teacher
from pages import blocks, page

import edgecompress
from edgecompress.texts import tags_of, words_of

PAGE = page("python.md")
RECIPE = """\
name: tiny
task: token-classification
model: exported
data: {format: conll, train: [train.txt], validation: [dev.txt], test: [test.txt]}
stages: [quantize.dynamic]
profile: {min_duration_ms: 100, min_count: 16, warmup_ms: 10, max_warmup_ms: 50, cold_starts: 1}
minimize: size
"""


def write(folder: Path) -> None:
    """Write a small model as transformers saves one, its data and a recipe."""
    made = tiny_teacher(folder / "made", tagged_examples(60, 1), "token-classification")
    shutil.copytree(made.model.directory, folder / "model")
    assert made.preprocessor is not None
    shutil.copytree(made.preprocessor, folder / "model", dirs_exist_ok=True)
    for name, seed in (("train", 1), ("dev", 2), ("test", 3)):
        lines = []
        for example in tagged_examples(24, seed):
            pairs = zip(words_of(example), tags_of(example), strict=True)
            lines += [*(f"{word} {tag}" for word, tag in pairs), ""]
        (folder / f"{name}.txt").write_text("\n".join(lines))
    (folder / "recipe.yaml").write_text(RECIPE)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page's blocks leave behind, run one after the other in one folder."""
    folder = tmp_path_factory.mktemp("python")
    write(folder)
    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("EDGECOMPRESS_STORE", str(folder / "store"))
        for block in blocks(PAGE, "python"):
            exec(compile(block, "docs/python.md", "exec"), found)
    found["folder"] = folder
    return found


def test_the_page_does_what_it_says(said: dict[str, Any]) -> None:
    folder = said["folder"]
    assert (folder / "small" / "candidate.json").is_file()
    assert said["pruned"].decisions["kept"] == [said["pruned"].decisions["kept"][0]]
    assert said["f1"].unit == "fraction" and said["f1"].samples > 0
    assert set(said["latency"]) == {"exported", "small"}
    assert (folder / "sensitivity" / "sensitivity.html").is_file()
    assert said["plan"].plan.recipe.fields.seed == said["found"].result.recipe["seed"] == 5
    assert said["found"].report == Path("out/report.html") and said["found"].exit_code == 0
    assert len(said["answers"]) == 2 and said["answers"][0].text == "Abuja Kano"
    assert not (folder / "other").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("small", ["quantize.dynamic", "before", "smaller"]),
        ("scores", ["95 % interval", "f1", "local"]),
        ("costs", ["exported", "small", "On local"]),
        ("layers", ["Measured on"]),
        ("plan", ["tiny: token-classification, seed 5", "train: 24 examples"]),
        ("found", ["export", "quantize.dynamic"]),
        ("answers", ["Abuja Kano"]),
        ("archive", ["small.tar.zst", "core and evidence"]),
    ],
)
def test_a_result_prints_as_tables_and_shows_as_html(
    said: dict[str, Any], name: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    import rich

    found = said[name]
    rich.print(found)
    drawn = capsys.readouterr().out
    markup = html.unescape(html.unescape(found._repr_html_())).replace("<wbr>", "")
    for word in words:
        assert word in str(found) and word in repr(found)
        assert word in " ".join(drawn.split())
        assert word in markup
    assert f"<{'iframe' if hasattr(found, 'page') else ''}" in found._repr_html_()


def test_what_a_stranger_wrote_is_escaped(said: dict[str, Any]) -> None:
    from edgecompress.api.shown import Section, as_html

    shown = as_html([Section("<b>", ("<i>",), (("<script>", "\x1b[2J"),), ("a & b",))])
    assert "<b>" not in shown and "<script>" not in shown and "\x1b" not in shown
    assert "a &amp; b" in shown


def test_arguments_that_exclude_each_other_are_one_sentence(said: dict[str, Any]) -> None:
    from edgecompress.errors import ArgumentError

    folder = said["folder"]
    with pytest.raises(ArgumentError, match="static"):
        edgecompress.quantize(folder / "exported", folder / "x", data=folder, progress=False)
    with pytest.raises(ArgumentError, match="two models, not 1"):
        edgecompress.profile(folder / "exported", compare=True)
    with pytest.raises(TypeError, match="recipee"):
        edgecompress.evaluate(folder / "exported", recipee="x")
