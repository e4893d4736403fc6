"""A tagger in other engines beside ours: CTranslate2 in int8, OpenVINO in fp32, bf16 and int8.

    python benchmarks/engines.py --model DIR --data DIR [--ours BUNDLE ...] [--made DIR]

`--model` is a checkpoint of BERT's kind for token-classification, `--data` the root of the data of
``models/masakhaner-int8.yaml``. Ours are what ``edgecompress quantize`` makes of its plain export
without being told anything, and the bundles given; a peer is left out where its package is not
installed (``ctranslate2``, ``openvino``, ``nncf``). CTranslate2 converts the checkpoint with int8
weights, and the classifier's product is NumPy's; OpenVINO reads the plain export, and NNCF
quantizes it with its preset for transformers and 128 texts of train. All answer every text of test,
one at a time, and then 40 texts of test in turns, on one thread, from pieces to logits: nobody's
tokenizer is timed. With `--made` what was converted is kept there, so that ``--only judge`` and
``--only race`` can be two commands. Intervals: paired bootstrap over texts.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
from turns import in_turns

from edgecompress.bundle import load_bundle
from edgecompress.engine.recipe import load_recipe
from edgecompress.models.inputs import encode_rows, typed_feed
from edgecompress.models.runner import open_onnx
from edgecompress.targets.agent.kernel import cpuinfo
from edgecompress.targets.inputs import spread
from edgecompress.targets.size import model_files
from edgecompress.tasks import Answers, Rows, task
from edgecompress.tasks.compare import paired_bootstrap_drop
from edgecompress.values import Candidate, Example, OnnxModel, TensorSpec

Feed = Mapping[str, Any]
Ask = Callable[[Feed], Any]
KIND = task("token-classification")
Labels = Sequence[str]
RECIPE = Path(__file__).parent.parent / "models" / "masakhaner-int8.yaml"
TIMED, CALIBRATION, MB = 40, 128, 1e6
HEADS = ("engine", "MB", "smaller", "ms, median", "faster than fp32 (95 %)", "F1", "lost (95 %)",
         "most lost in a language")  # fmt: skip


def told(*words: object) -> None:
    """Run edgecompress with these words."""
    subprocess.run([sys.executable, "-m", "edgecompress", *map(str, words)], check=True)


def ctranslate2(model: Path, folder: Path) -> tuple[int, Ask]:
    """Convert the encoder; the classifier on top of it is a product of NumPy's."""
    import ctranslate2 as engine
    from ctranslate2.converters import (
        TransformersConverter,
    )
    from safetensors.numpy import load_file

    place = folder / "ctranslate2"
    if not place.is_dir():
        TransformersConverter(str(model)).convert(str(place), quantization="int8")
    encoder = engine.Encoder(str(place), compute_type="int8", intra_threads=1, inter_threads=1)
    head = load_file(model / "model.safetensors")
    weight, bias = np.ascontiguousarray(head["classifier.weight"].T), head["classifier.bias"]

    def ask(feed: Feed) -> Any:
        pieces = np.asarray(feed["input_ids"], np.int32)
        lengths = np.full(len(pieces), pieces.shape[1], np.int32)
        view = engine.StorageView.from_array
        found = encoder.forward_batch(view(pieces), view(lengths))
        return np.asarray(found.last_hidden_state) @ weight + bias

    return (place / "model.bin").stat().st_size + weight.nbytes + bias.nbytes, ask


def openvino(file: Path, hint: str) -> tuple[int, Ask]:
    """Open a graph on one thread."""
    import openvino as engine

    core = engine.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": hint}  # fmt: skip
    model = core.compile_model(core.read_model(file), "CPU", settings)
    request = model.create_infer_request()
    names = [each.get_any_name() for each in model.inputs]

    def ask(feed: Feed) -> Any:
        return request.infer({name: feed[name] for name in names})[0]

    size = sum(each.stat().st_size for each in {file, file.with_suffix(".bin")} if each.is_file())
    return size, ask


def nncf(fp32: Path, feeds: Sequence[Feed], folder: Path) -> Path:
    """Quantize a graph with NNCF's preset for transformers."""
    import nncf as quantizer
    import openvino as engine

    made = folder / "nncf.xml"
    if not made.is_file():
        quantized = quantizer.quantize(
            engine.Core().read_model(fp32), quantizer.Dataset(list(map(dict, feeds))),
            model_type=quantizer.ModelType.TRANSFORMER, subset_size=len(feeds),
        )  # fmt: skip
        engine.save_model(quantized, made, compress_to_fp16=False)
    return made


@click.command()
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--ours", multiple=True, type=click.Path(path_type=Path, exists=True))
@click.option("--made", type=click.Path(path_type=Path), help="Where the models are kept.")
@click.option("--only", type=click.Choice(["judge", "race"]))
@click.option("--seconds", default=60.0, show_default=True, help="Of timing.")
def main(
    model: Path, data: Path, ours: tuple[Path, ...], made: Path | None, only: str | None,
    seconds: float,
) -> None:  # fmt: skip
    """Convert, ask, time, and print a table."""
    with tempfile.TemporaryDirectory(prefix="edgecompress-engines-") as name:
        folder = (made or Path(name)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        compare(model, data, ours, folder, only, seconds)


@dataclass
class Row:
    """An engine with its model, the rows of test as it wants them, and what was found out."""

    title: str
    size: int
    ask: Ask
    rows: Rows
    times: tuple[str, str] = ("", "")
    judged: tuple[str, str, str] = ("", "", "")

    def feed(self, number: int, specs: Sequence[TensorSpec]) -> Feed:
        """Give the inputs of one text."""
        return typed_feed(self.rows, [number], specs)


def compare(
    model: Path, data: Path, ours: Sequence[Path], folder: Path, only: str | None, seconds: float
) -> None:
    """Make what is not there yet, ask and time everything."""
    recipe = load_recipe(RECIPE, [f"teacher.model={model}", f"data.root={data}"])
    assert recipe.data is not None
    examples = recipe.data.read("test")
    for command, *words in (("export", model, "--task", KIND.name), ("quantize", folder / "fp32")):
        made = folder / {"export": "fp32", "quantize": "int8"}[command]
        if not made.is_dir():
            told(command, *words, "-o", made)
    plain = Candidate.load(folder / "fp32")
    assert isinstance(plain.model, OnnxModel)
    specs = open_onnx(plain.model).specs
    rows = [
        opened("ONNX Runtime, plain export in fp32", plain, examples),
        opened("edgecompress quantize", Candidate.load(folder / "int8"), examples),
        *(opened(f"edgecompress, {place.name}", load_bundle(place), examples) for place in ours),
    ]
    fp32 = rows[0].rows
    train = recipe.data.read("train")
    learned = encode_rows(plain, train[:: len(train) // CALIBRATION][:CALIBRATION])
    assert learned is not None
    few = [typed_feed(learned, [number], specs) for number in range(len(learned))]
    for title, found in peers(model, plain.model.path, few, folder):
        rows.append(Row(title, *found, fp32))
    if only != "race":
        judge(rows, specs, examples, plain.labels)
    if only != "judge":
        race(rows, specs, spread(fp32.lengths.tolist(), TIMED), seconds)
    click.echo(f"{cpuinfo().get('model name', '')}, {len(examples)} texts of test\n")
    click.echo(f"| {' | '.join(HEADS)} |\n|---|{'--:|' * (len(HEADS) - 1)}")
    for row in rows:
        sizes = f"{row.size / MB:.1f}", f"{rows[0].size / row.size:.2f}×"
        click.echo(f"| {' | '.join((row.title, *sizes, *row.times, *row.judged))} |")


def opened(title: str, candidate: Candidate, examples: Sequence[Example]) -> Row:
    """Open one of ours as a bundle does, on one thread."""
    assert isinstance(candidate.model, OnnxModel)
    runner, rows = open_onnx(candidate.model), encode_rows(candidate, examples)
    assert rows is not None
    size = sum(file.stat().st_size for file in model_files(candidate.model))
    return Row(title, size, lambda feed: next(iter(runner(feed).values())), rows)


def peers(
    model: Path, fp32: Path, few: Sequence[Feed], folder: Path
) -> Iterator[tuple[str, tuple[int, Ask]]]:
    """Open each engine that is installed."""
    if find_spec("ctranslate2"):
        yield "CTranslate2, int8", ctranslate2(model, folder)
    if find_spec("openvino"):
        yield "OpenVINO, fp32", openvino(fp32, "f32")
        yield "OpenVINO, bf16", openvino(fp32, "bf16")
        if find_spec("nncf"):
            yield "OpenVINO, int8 by NNCF", openvino(nncf(fp32, few, folder), "f32")


def judge(
    rows: Sequence[Row], specs: Sequence[TensorSpec], examples: Sequence[Example], labels: Labels
) -> None:
    """Ask every model every text; losses are against the first."""
    files: dict[str, list[int]] = {}
    for number, one in enumerate(examples):
        files.setdefault(one.source, []).append(number)
    first: Answers | None = None
    for row in rows:
        outputs = [row.ask(row.feed(number, specs))[0] for number in range(len(examples))]
        compact = [KIND.compact(one, each) for one, each in zip(outputs, row.rows, strict=True)]
        said = KIND.decode(compact, row.rows)
        first = first or said
        lost = paired_bootstrap_drop(KIND.metrics[0], first, said, examples, 0)
        drop, low, high = (100 * each for each in lost)

        def of(answers: Answers, some: Sequence[int]) -> float:
            part = [examples[number] for number in some]
            return 100 * KIND.quality(answers.part(some), part, labels)

        most, name = max((of(first, some) - of(said, some), file) for file, some in files.items())
        row.judged = (
            f"{of(said, range(len(examples))):.2f}",
            f"{drop:.2f} ({low:.2f} to {high:.2f})",
            f"{most:.2f} in {name}",
        )


def race(
    rows: Sequence[Row], specs: Sequence[TensorSpec], chosen: Sequence[int], seconds: float
) -> None:
    """Time all models in turns."""
    feeds = [[row.feed(number, specs) for number in chosen] for row in rows]

    def asks(index: int) -> Callable[[int], object]:
        return lambda number: rows[index].ask(feeds[index][number])

    found = in_turns([asks(index) for index in range(len(rows))], len(chosen), seconds)
    for row, times in zip(rows, found, strict=True):
        row.times = times


if __name__ == "__main__":
    main()
