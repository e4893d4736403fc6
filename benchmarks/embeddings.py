"""A sentence encoder on STS-B, ours beside sentence-transformers' own int8: loss, size and speed.

    python benchmarks/embeddings.py --model DIR --data DIR [--texts FILE ...]

DIR of the data holds the benchmark's own files, ``sts-train.csv``, ``sts-dev.csv`` and
``sts-test.csv`` (tabs, no header, no quotes); ``--texts`` are files of other texts, one a line,
that a student learns from, too. Both recipes are run (``--recipe`` names others); their winners,
the stock export in fp32 and what ONNX Runtime's dynamic quantizer makes of that (what
sentence-transformers calls the ``avx512_vnni`` preset: weights in int8 by channel, MatMul and
Gather) then answer every pair of the test, one text at a time, and are timed in one loop on one
thread. Intervals: paired bootstrap over pairs; of speed that of the harness. ``--bundle`` takes
bundles or candidates and runs no recipe.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from edgecompress.bundle import load_bundle
from edgecompress.targets.accuracy import answers
from edgecompress.targets.base import Clock
from edgecompress.targets.local import Local
from edgecompress.targets.measure import time_candidates
from edgecompress.targets.size import model_files
from edgecompress.tasks import Answers, task
from edgecompress.tasks.compare import paired_bootstrap_drop
from edgecompress.values import Candidate, Example, OnnxModel

SCORE, FIRST, SECOND = 4, 5, 6
"""Columns; rows may have two more behind these."""
PAIR = ("text", "text_pair")
OTHERS = "texts.jsonl"
RECIPES = ("models/stsb-minilm.yaml", "models/stsb-minilm-small.yaml")
MB = 1e6


def read(file: Path) -> list[dict[str, object]]:
    """Read one of the benchmark's files."""
    with file.open(encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    return [
        {"text": row[FIRST], "text_pair": row[SECOND], "score": float(row[SCORE])} for row in rows
    ]


def write_data(data: Path, texts: list[Path], folder: Path) -> None:
    """Write the files as the recipes want them; texts of other files without those of dev and test.

    A text that train holds already is left out, too.
    """
    rows = {name: read(data / f"sts-{name}.csv") for name in ("train", "dev", "test")}
    for name, some in rows.items():
        write_lines(folder / f"{name}.jsonl", some)
    known = {str(one[key]).strip() for some in rows.values() for one in some for key in PAIR}
    others = (line.strip() for file in texts for line in file.read_text("utf-8").splitlines())
    found = [text for text in dict.fromkeys(others) if text and text not in known]
    if found:
        write_lines(folder / OTHERS, [{"text": text} for text in found])


def write_lines(file: Path, rows: list[dict[str, object]]) -> None:
    """Write JSON lines."""
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def winner(recipe: Path, model: Path, data: Path, folder: Path) -> Candidate:
    """Run a recipe and give its winner."""
    train = f"[train.jsonl, {OTHERS}]" if (data / OTHERS).is_file() else "train.jsonl"
    command = [
        *(sys.executable, "-m", "edgecompress", "run", recipe, "-o", folder / recipe.stem),
        *("--set", f"teacher.model={model}", "--set", f"data.root={data}"),
        *("--set", f"data.train={train}"),
    ]
    subprocess.run(list(map(str, command)), check=False)  # a limit that is missed is told below
    return opened(folder / recipe.stem / "bundle")


def opened(folder: Path) -> Candidate:
    """Open a bundle, or a candidate that a command wrote."""
    made = (folder / "candidate.json").is_file()
    return Candidate.load(folder) if made else load_bundle(folder)


def stock(model: Path, folder: Path) -> Candidate:
    """Export the model in fp32 as it is."""
    command = [sys.executable, "-m", "edgecompress", "export", model, "-o", folder / "fp32"]
    subprocess.run(list(map(str, command)), check=True)
    return Candidate.load(folder / "fp32")


def peer(fp32: Candidate, folder: Path) -> Candidate:
    """Quantize the stock export as sentence-transformers does for this processor."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    assert isinstance(fp32.model, OnnxModel)
    (folder / "peer").mkdir()
    made = folder / "peer" / "model.onnx"
    quantize_dynamic(
        fp32.model.path, made, per_channel=True, weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gather"],
    )  # fmt: skip
    return replace(fp32, model=OnnxModel(made))


def main() -> None:
    """Run, ask, time, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a sentence-transformers folder")
    parser.add_argument("--data", type=Path, required=True, help="folder of STS-B's files")
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="other texts, one a line")
    parser.add_argument("--recipe", type=Path, nargs="*", default=list(map(Path, RECIPES)))
    parser.add_argument("--bundle", type=Path, nargs="*", help="in the place of runs")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing")
    parser.add_argument("--only-data", type=Path, help="write the data there and end")
    arguments = parser.parse_args()
    if arguments.only_data:
        arguments.only_data.mkdir(parents=True, exist_ok=True)
        write_data(arguments.data, arguments.texts, arguments.only_data)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        write_data(arguments.data, arguments.texts, folder / "data")
        fp32 = stock(arguments.model, folder)
        rows = {
            "fp32, stock export": fp32,
            "ONNX Runtime dynamic int8": peer(fp32, folder),
        }
        if arguments.bundle:
            rows |= {f"ours, {one.name}": opened(one) for one in arguments.bundle}
        else:
            rows |= {
                f"ours, {one.stem}": winner(one, arguments.model, folder / "data", folder)
                for one in arguments.recipe
            }
        compare(rows, read(arguments.data / "sts-test.csv"), arguments.seconds)


def compare(rows: dict[str, Candidate], test: list[dict[str, object]], seconds: float) -> None:
    """Ask and time all of them, and print what was found."""
    kind, target = task("feature-extraction"), Local()
    examples = [Example({key: row[key] for key in PAIR}, row["score"]) for row in test]
    said: dict[str, Answers] = {name: answers(one, examples, target) for name, one in rows.items()}
    clock = Clock(threads=1, min_duration_ms=seconds * 1e3)
    timed = time_candidates(list(rows.values()), examples, clock, target)
    first = next(iter(rows))
    largest = size(rows[first])
    heads = "Spearman | points lost (95 %) | cosine to fp32 | MB | smaller | faster (95 %)"
    print(f"| model | {heads} |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for index, (name, one) in enumerate(rows.items()):
        value = 100 * kind.quality(said[name], examples, ())
        lost = paired_bootstrap_drop(kind.metrics[0], said[first], said[name], examples, 0)
        drop, low, high = (100 * number for number in lost)
        ratio = timed.speedup(0, index, "fp32")
        bounds = "–".join(f"{number:.2f}" for number in ratio.interval or ())
        print(
            f"| {name} | {value:.2f} | {drop:.2f} ({low:.2f} to {high:.2f}) | "
            f"{kind.agreement(said[name], said[first]):.4f} | {size(one) / MB:.1f} | "
            f"{largest / size(one):.2f} × | {ratio.value:.2f} × ({bounds}) |"
            + (f" not valid: {ratio.invalid}" if ratio.invalid else "")
        )


def size(one: Candidate) -> int:
    """Give the bytes of a model's files."""
    assert isinstance(one.model, OnnxModel)
    return sum(file.stat().st_size for file in model_files(one.model))


if __name__ == "__main__":
    main()
