"""``edgecompress bundle diff``: what it prints, its JSON, its exit codes, and the base install."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgecompress.bundle.packing import pack_bundle
from edgecompress.cli.bundle import bundle as command
from edgecompress.errors import BundleError, DataError
from edgecompress.results import Row, RunResult, Verdict
from edgecompress.values import Candidate, Measurement, OnnxModel

MakeBundle = Callable[..., Path]


def evidence(f1: float, ms: float) -> RunResult:
    at = {"target": "local", "split": "test"}
    measured = (
        Measurement("f1", f1, "fraction", **at),
        Measurement("f1", f1 - 0.1, "fraction", **at, slice="file:hau", samples=90),
        Measurement("f1_drop", 0.8 - f1, "fraction", **at, interval=(0.79 - f1, 0.81 - f1)),
        Measurement("latency_p50", ms, "ms", "local", interval=(ms - 0.1, ms + 0.1)),
        Measurement("size", 1000.0, "bytes"),
    )
    return RunResult(
        name="tiny",
        task="token-classification",
        recipe={},
        rows=(Row("winner", "candidate", measurements=measured),),
        winner="winner",
        verdict=Verdict("budget", "pass", "every limit is kept"),
        minimize="size",
        budget=(),
        environment={"cpu": "one"},
        data={},
    )


@pytest.fixture
def pair(tagger: Candidate, make_bundle: MakeBundle) -> tuple[str, str]:
    old = make_bundle(tagger, "old", evidence=evidence(0.8, 2.0))
    assert isinstance(tagger.model, OnnxModel)
    step = replace(tagger.steps[0], parameters={"opset": 18})
    new = make_bundle(
        replace(tagger, steps=(step,)),
        "new",
        recipe={"name": "tiny", "seed": 8},
        evidence=evidence(0.7, 1.0),
    )
    return str(old), str(new)


def diff(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["diff", *arguments])


def test_it_says_what_changed_and_what_did_not_is_left_out(pair: tuple[str, str]) -> None:
    said = diff(*pair)
    assert said.exit_code == 0, said.output
    text = said.output
    assert "The cores differ." in text
    assert "~  seed  7 → 8" in text
    assert "~  export: parameters.opset  17 → 18" in text
    assert "manifest.json" in text and "model.onnx" not in text
    lines = {line.split("  ")[1].strip(): line for line in text.splitlines() if "  " in line}
    assert "−10.00" in lines["F1, test, points"]
    assert lines["F1 vs teacher, test, points"].endswith("−10.00      apart")
    assert "+0.00" not in text
    assert lines["Latency p50, ms"].split()[3:] == [
        "2.00", "(1.90–2.10)", "1.00", "(0.900–1.10)", "−1.00", "(−50%)", "apart",
    ]  # fmt: skip
    assert "F1, file:hau, test, points" in text
    assert "Size" not in text and "1 other is the same" in text
    assert "times come from two runs" in text


def test_a_bundle_and_itself(pair: tuple[str, str]) -> None:
    said = diff("--exit-code", pair[0], pair[0])
    assert said.exit_code == 0
    assert "The cores are the same, to the last byte." in said.output
    assert "Stages" not in said.output and "Files" not in said.output


def test_exit_codes(pair: tuple[str, str], tmp_path: Path) -> None:
    assert diff("--exit-code", *pair).exit_code == 1
    broken = diff("--exit-code", pair[0], str(tmp_path / "none"))
    assert isinstance(broken.exception, BundleError) and broken.exception.exit_code == 2
    plain = diff(pair[0], str(tmp_path / "none"))
    assert isinstance(plain.exception, BundleError) and plain.exception.exit_code == 1


def test_answers_are_asked_of_both(
    pair: tuple[str, str], tmp_path: Path, make_bundle: MakeBundle, tagger: Candidate
) -> None:
    file = tmp_path / "some.txt"
    file.write_text("Abuja B-LOC\n\nBuhari B-PER\n", encoding="utf-8")
    said = diff(*pair, "--data", str(file))
    assert "0 of 2 answers differ (0 %)." in said.output
    other = make_bundle(replace(tagger, labels=("O", "B-LOC", "I-LOC", "B-PER", "I-PER")), "other")
    said = diff(pair[0], str(other), "--data", str(file), "--show", "1")
    assert said.exit_code == 0, said.output
    assert "2 of 2 answers differ (100 %)." in said.output
    assert "right to wrong 2, wrong to right 0, wrong to wrong 0" in said.output
    assert "F1: 50.00 → 0.00" in said.output or "F1: 100.00 → 0.00" in said.output
    assert "Abuja  Abuja LOC  Abuja PER  Abuja LOC  right to wrong" in said.output
    assert "1 more; --json has all of them" in said.output


def test_everything_as_json(pair: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "some.txt"
    file.write_text("Sannu Abuja\n", encoding="utf-8")
    said = CliRunner().invoke(command, ["diff", "--json", *pair, "--data", str(file)])
    document = json.loads(said.stdout)
    assert document["same_core"] is False
    assert document["recipe"] == [{"key": "seed", "kind": "changed", "old": 7, "new": 8}]
    assert document["answers"]["asked"] == 1 and document["answers"]["flips"] == []
    drop = next(one for one in document["numbers"] if one["metric"] == "f1_drop")
    assert drop["overlap"] is False and drop["old"]["interval"] == pytest.approx([-0.01, 0.01])


def test_a_recipe_names_the_texts(pair: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "dev.txt").write_text("Abuja B-LOC\n", encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: tiny\ntask: token-classification\nteacher: {model: nowhere}\n"
        "data: {format: conll, root: ., train: [a.txt], validation: [dev.txt], test: [b.txt]}\n"
        "stages: [export]\n",
        encoding="utf-8",
    )
    said = diff(*pair, "--recipe", str(recipe))
    assert "0 of 1 answers differ" in said.output, said.output
    root = tmp_path / "elsewhere"
    root.mkdir()
    (root / "dev.txt").write_text("Abuja B-LOC\n\nya O\n", encoding="utf-8")
    said = diff(*pair, "--recipe", str(recipe), "--set", f"data.root={root}")
    assert "0 of 2 answers differ" in said.output


def test_bundles_of_different_tasks_are_not_asked(
    pair: tuple[str, str], classifier: Candidate, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    (tmp_path / "some.txt").write_text("ya\n", encoding="utf-8")
    other = str(make_bundle(classifier, "other"))
    assert "text-classification" in diff(pair[0], other).output
    said = diff(pair[0], other, "--data", str(tmp_path / "some.txt"))
    assert isinstance(said.exception, DataError)
    assert "different tasks" in str(said.exception)


def test_an_archive_is_compared_as_the_bundle_that_it_holds(
    pair: tuple[str, str], tmp_path: Path
) -> None:
    archive = pack_bundle(Path(pair[0]), tmp_path / "a.tar.zst")
    (tmp_path / "some.txt").write_text("Abuja B-LOC\n", encoding="utf-8")
    said = diff("--exit-code", pair[0], str(archive), "--data", str(tmp_path / "some.txt"))
    assert said.exit_code == 0, said.output
    assert "The cores are the same" in said.output and str(archive) in said.output
    assert "0 of 1 answers differ" in said.output


def test_a_terminal_gets_tables(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    from edgecompress.api.difference_sections import sections
    from edgecompress.api.shown import drawn
    from edgecompress.comparison.differences import compare
    from edgecompress.comparison.side import read_side

    found = compare(*(read_side(Path(one)) for one in pair))
    monkeypatch.setenv("COLUMNS", "160")
    Console().print(*drawn(sections(found)))
    text = capsys.readouterr().out
    assert "Recipe" in text and "7 → 8" in text and "apart" in text


def test_the_base_install_is_enough(pair: tuple[str, str], tmp_path: Path) -> None:
    """Run where nothing but what a device has can be imported."""
    file = tmp_path / "some.txt"
    file.write_text("Abuja B-LOC\n", encoding="utf-8")
    code = """
import sys
for name in ("rich", "pydantic", "yaml", "jinja2", "torch", "onnx", "seqeval", "babel"):
    sys.modules[name] = None
from edgecompress.cli.main import main
sys.argv[1:] = ["bundle", "diff", *sys.argv[1:]]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *pair, "--data", str(file)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "0 of 1 answers differ" in done.stdout
