"""``edgecompress sensitivity``: what it prints and writes, its store, its exit codes, its page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import tagged_examples
from planted import CULPRIT, planted_encoder

from edgecompress.cli.main import main
from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.write.writer import rewrite
from edgecompress.texts import tags_of, words_of
from edgecompress.values import Candidate


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


def write_conll(file: Path, count: int, seed: int) -> Path:
    lines = []
    for example in tagged_examples(count, seed):
        lines += [
            f"{word} {tag}" for word, tag in zip(words_of(example), tags_of(example), strict=True)
        ]
        lines.append("")
    file.write_text("\n".join(lines))
    return file


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the planted model as a candidate, its int8 form, a recipe and its data."""
    folder = tmp_path_factory.mktemp("sensitivity")
    planted = planted_encoder()
    (folder / "fp32" / "model").mkdir(parents=True)
    import shutil
    from dataclasses import replace

    shutil.copytree(planted.model.directory, folder / "fp32" / "model", dirs_exist_ok=True)
    shutil.copytree(planted.preprocessor, folder / "fp32" / "preprocessor")
    model = replace(planted.model, path=folder / "fp32" / "model" / "model.onnx")
    held = replace(planted, model=model, preprocessor=folder / "fp32" / "preprocessor")
    held.save(folder / "fp32")
    stored, _ = rewrite(read_model(model.path), Scheme())
    write_model(stored, folder / "int8.onnx")
    for number, name in enumerate(("train", "dev", "test")):
        write_conll(folder / f"{name}.txt", 12, number + 1)
    (folder / "recipe.yaml").write_text(
        "name: sens\ntask: token-classification\nmodel: fp32\n"
        "data: {format: conll, root: ., train: [train.txt], validation: [dev.txt], "
        "test: [test.txt]}\nseed: 3\nstages: [quantize.dynamic]\n"
    )
    return folder


def ask(place: Path, *more: str) -> int:
    shared = ["--recipe", str(place / "recipe.yaml"), "--store", str(place / "store")]
    return run(["sensitivity", str(place / "fp32"), "--samples", "6", *shared, *more])


def test_it_names_the_culprit_and_writes_a_page(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = place / "out"
    assert ask(place, "-o", str(out), "--top", "3") == 0
    said = capsys.readouterr().out
    worst = said.split("\n")[2]  # below the heading and its units
    assert worst.split()[0].startswith("encoder/layer.1/output/dense") and "both" in worst
    assert f"Culprits: {CULPRIT} (error" in said and "mostly by its input" in said
    assert "6 of 12 validation examples" in said and "more; --top shows them" in said
    document = json.loads((out / "sensitivity.json").read_text())
    assert document["culprits"] == [CULPRIT] and document["metric"] == "f1"
    page = (out / "sensitivity.html").read_text()
    assert CULPRIT.split("/")[-2] in page and page.count('class="strip') > 4
    assert "default-src 'none'" in page

    # The second time nothing is measured.
    def never(*_given: object, **_more: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("edgecompress.quantization.search.sensitivity.measure", never)
    assert ask(place, "--json") == 0
    assert json.loads(capsys.readouterr().out) == document


def test_static_ranges_one_layer_and_weights_alone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--layer", CULPRIT, "--activations", "static", "--json"]
    assert ask(place, *more) == 0
    found = json.loads(capsys.readouterr().out)
    assert {item["layer"] for item in found["items"]} == {CULPRIT}
    assert [item["what"] for item in found["items"]] == ["both", "weight", "activation"]
    assert "static ranges" in found["about"]


def test_two_models_are_compared_in_the_graphs_order(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place / "compared"
    assert ask(place, "--compare", str(place / "int8.onnx"), "-o", str(out)) == 0
    said = capsys.readouterr().out
    assert "It falls most at" in said and "dB at the end" in said
    tensors = json.loads((out / "sensitivity.json").read_text())["tensors"]
    names = [one["tensor"] for one in tensors]
    assert names[-1] == "logits"
    before = names.index("/bert/encoder/layer.1/intermediate/dense/MatMul_output_0")
    after = names.index("/bert/encoder/layer.1/output/dense/MatMul_output_0")
    assert before < after
    assert tensors[before]["snr_db"] > 15 > tensors[after]["snr_db"]
    assert "Signal to noise" in (out / "sensitivity.html").read_text()


def test_a_bare_file_takes_given_or_made_up_inputs(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(Candidate.load(place / "fp32").model.path)
    shared = ["--store", str(tmp_path / "store"), "--parts", "layers", "--json"]
    assert run(["sensitivity", model, "--samples", "3", *shared]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["culprits"] == [CULPRIT] and found["metric"] is None
    assert "3 made-up inputs" in found["about"]
    ones = np.ones((2, 6), np.int64)
    arrays = {"input_ids": ones * [[5], [6]], "attention_mask": ones, "token_type_ids": 0 * ones}
    np.savez(tmp_path / "given.npz", **arrays)
    assert run(["sensitivity", model, "--data", str(tmp_path / "given.npz"), *shared]) == 0
    assert "2 samples of given.npz" in json.loads(capsys.readouterr().out)["about"]
    (tmp_path / "texts.txt").write_text("a b\nc d\n", encoding="utf-8")
    texts = ["--data", str(tmp_path / "texts.txt")]
    assert run(["sensitivity", model, *texts, *shared]) == 2
    assert "texts need a tokenizer" in capsys.readouterr().err


def test_bad_input_ends_in_words(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sensitivity", str(place / "int8.onnx"), "--store", str(place / "store")]) == 1
    assert "int8.onnx is quantized already" in capsys.readouterr().err
    assert ask(place, "--layer", "/clasifier/MatMul") == 1
    assert "did you mean '/classifier/MatMul'" in capsys.readouterr().err
    assert run(["sensitivity", str(place / "none.onnx"), "--store", str(place / "store")]) == 2
    assert ask(place, "--compare", str(place)) == 2
    assert "--compare takes an ONNX file" in capsys.readouterr().err


def test_auto_runs_from_the_command_line(place: Path, tmp_path: Path) -> None:
    """A whole run of the stage, timed for real; what it answers depends on the machine."""
    arguments = ["quantize", str(place / "fp32"), "--scheme", "auto", "-o", str(tmp_path / "auto")]
    arguments += ["--recipe", str(place / "recipe.yaml"), "--store", str(tmp_path / "store")]
    fields = ("forms=[dynamic]", "max_drop=1.0", "max_error=1.5", "seconds=1")
    assert run([*arguments, *(part for one in fields for part in ("--set", one))]) == 0
    step = Candidate.load(tmp_path / "auto").steps[-1]
    assert step.decisions["verdict"]["state"] == "pass"
    assert step.measured["times"][0]["of"][0] == "fp32"


def test_a_recipe_names_it_beside_what_every_run_measures(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = (place / "recipe.yaml").read_text() + (
        "profile: {min_duration_ms: 10, max_warmup_ms: 50, min_count: 5, cold_starts: 0, "
        "attempts: 1}\n"
        "observers: [sensitivity: {samples: 6, parts: layers}, sensitivity: {layers: [nowhere]}]\n"
    )
    (place / "observed.yaml").write_text(recipe)
    shared = ["--store", str(place / "store")]
    assert run(["run", str(place / "observed.yaml"), "-o", str(tmp_path / "out"), *shared]) == 0
    capsys.readouterr()
    (folder,) = (tmp_path / "out" / "observed").iterdir()  # the int8 model is no fp32 model
    assert folder.name == "onnx-fp32"
    document = json.loads((folder / "sensitivity.json").read_text())
    assert ask(place, "--parts", "layers", "--json") == 0
    assert document == json.loads(capsys.readouterr().out) | {"model": "onnx-fp32"}
    assert "no layer or weight named nowhere" in (tmp_path / "out" / "report.html").read_text()
    for wrong, said in (
        ("observers: [quantize.dynamic]", "name it under `stages`"),
        ("observers: [evaluate]", "evaluate measures every model as it is"),
        ("observers: [sensitivity: {sample: 3}]", "did you mean 'samples'"),
        ("observers: [sensitivty]", "did you mean 'sensitivity'"),
        ("observers: [sensitivity: {inputs: no.npz}]", "observers[0]: no.npz: there is no such"),
        ("observers: [sensitivity: {compare: no.onnx}]", "observers[0]: no.onnx: --compare takes"),
    ):
        text = (place / "recipe.yaml").read_text() + wrong
        (place / "wrong.yaml").write_text(text)
        assert run(["check", str(place / "wrong.yaml")]) == 2
        assert said in capsys.readouterr().err
