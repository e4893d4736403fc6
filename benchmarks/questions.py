"""Answers to questions, ours beside ONNX Runtime's own int8: EM, F1, what is lost, size and speed.

    python benchmarks/questions.py --model DIR --data DIR

DIR of the model is a folder with a fine-tuned head (`edgecompress finetune` with the recipe's
`teacher.finetune` makes one); that of the data holds `qamr/train.json`, `qamr/dev.json` and
`xquad/xquad.en.json`. The recipe is run without training: it calibrates on training questions and
chooses on QAMR's dev part. Its winner, the stock export in fp32 and what ONNX Runtime's dynamic
quantizer makes of that (weights in int8 by channel, MatMul and Gather) then answer all of XQuAD's
English questions, one window at a time, and are timed in one loop on one thread. Intervals: paired
bootstrap over questions; of speed that of the harness. ``--bundle`` takes a bundle and runs no
recipe.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from embeddings import peer, size

from edgecompress.bundle import load_bundle
from edgecompress.data import data_config
from edgecompress.targets.accuracy import answers
from edgecompress.targets.base import Clock
from edgecompress.targets.local import Local
from edgecompress.targets.measure import time_candidates
from edgecompress.tasks import Answers, task, wanted
from edgecompress.tasks.compare import paired_bootstrap_drop
from edgecompress.tasks.scoring import value_of
from edgecompress.values import Candidate, Example

KIND = task("question-answering")
TEST = "xquad/xquad.en.json"
MB = 1e6


def ours(arguments: argparse.Namespace, folder: Path) -> Candidate:
    """Run the recipe on the model as it is, and give its winner."""
    if arguments.bundle:
        return load_bundle(arguments.bundle)
    command = [
        *(sys.executable, "-m", "edgecompress", "run", arguments.recipe, "-o", folder / "out"),
        *("--set", f"teacher.model={arguments.model}", "--set", "teacher.finetune=null"),
        *("--set", f"data.root={arguments.data}", "--set", "threads=1"),
    ]
    subprocess.run(list(map(str, command)), check=False)  # a limit that is missed is told below
    return load_bundle(folder / "out" / "bundle")


def stock(model: Path, folder: Path) -> Candidate:
    """Export the model in fp32 as it is."""
    command = [sys.executable, "-m", "edgecompress", "export", model, "-o", folder / "fp32"]
    subprocess.run(list(map(str, [*command, "--task", KIND.name])), check=True)
    return Candidate.load(folder / "fp32")


def main() -> None:
    """Run, ask, time, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a fine-tuned model")
    parser.add_argument("--data", type=Path, required=True, help="folder of qamr and xquad")
    parser.add_argument("--recipe", type=Path, default=Path("models/xquad-minilm.yaml"))
    parser.add_argument("--bundle", type=Path, help="a bundle, in the place of a run")
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing")
    arguments = parser.parse_args()
    data = data_config({"format": "squad", "root": arguments.data, "test": TEST})
    examples = data.for_task(wanted(KIND)).read("test")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fp32 = stock(arguments.model, folder)
        rows = {
            "fp32, stock export": fp32,
            "ONNX Runtime dynamic int8": peer(fp32, folder),
            "ours": ours(arguments, folder),
        }
        compare(rows, examples, arguments.seconds)


def compare(rows: dict[str, Candidate], examples: tuple[Example, ...], seconds: float) -> None:
    """Ask and time all of them, and print what was found."""
    target, first = Local(), next(iter(rows))
    said: dict[str, Answers] = {name: answers(one, examples, target) for name, one in rows.items()}
    clock = Clock(threads=1, min_duration_ms=seconds * 1e3)
    timed = time_candidates(list(rows.values()), examples, clock, target)
    heads = "EM | F1 | F1 points lost (95 %) | MB | smaller | faster (95 %)"
    print(f"| model | {heads} |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for index, (name, one) in enumerate(rows.items()):
        f1, exact = (100 * value_of(each, said[name], examples, ())[0] for each in KIND.metrics)
        lost = paired_bootstrap_drop(KIND.metrics[0], said[first], said[name], examples, 0)
        drop, low, high = (100 * number for number in lost)
        ratio = timed.speedup(0, index, "fp32")
        bounds = "–".join(f"{number:.2f}" for number in ratio.interval or ())
        print(
            f"| {name} | {exact:.2f} | {f1:.2f} | {drop:.2f} ({low:.2f} to {high:.2f}) | "
            f"{size(one) / MB:.1f} | {size(rows[first]) / size(one):.2f} × | "
            f"{ratio.value:.2f} × ({bounds}) |"
            + (f" not valid: {ratio.invalid}" if ratio.invalid else "")
        )
    print(f"\n{len(examples)} questions.")


if __name__ == "__main__":
    main()
