"""A language model with parts cut out, before and after a short healing: perplexity and MB.

    python benchmarks/decoders.py --model DIR --data DIR --made DIR

`--model` is a decoder of a described family, `--data` the folder of wikitext2. Calibration and
healing read its validation text; nothing is chosen by the test text, of which each row is judged
once, in windows of 512 tokens that do not see each other, in fp32. Healing is `distil` from the
whole model with LoRA, on `--heal` passages of the validation text that calibration has not seen.
MB are those of all weights in fp32. Rows that stand in the folder `--made` are not made again;
``--only`` names some. Times are of the processor.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from bare import bare_context

from edgecompress.data.text import TextData
from edgecompress.stage import stage_class
from edgecompress.training.encoding import make_rows
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate, Example

SAMPLES = 12
"""Passages that importance is estimated and matrices are fitted on."""
CUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": ("", {}),
    "30 % of the neurons": ("prune.structured", {"ffn": 0.3, "multiple_of": 32}),
    "50 % of the neurons": ("prune.structured", {"ffn": 0.5, "multiple_of": 32}),
    "a third of the heads": ("prune.structured", {"heads": 0.34}),
    "30 % of heads and neurons": (
        "prune.structured",
        {"heads": 0.3, "ffn": 0.3, "multiple_of": 32},
    ),
    "6 of 30 layers": ("prune.layers", {"keep": 24, "measure": "influence"}),
    "an eighth of the channels": ("prune.structured", {"hidden": 0.125, "multiple_of": 32}),
    "low rank, 70 % of the weights": ("factorize", {"linear": {"budget": 0.7}}),
    "2:4 zeros by magnitude": ("prune.magnitude", {"pattern": "2:4"}),
}
HEALING = {
    "epochs": 1,
    "learning_rate": 1e-3,
    "batch_size": 2,
    "label_weight": 0.5,
    "temperature": 1.0,
    "lora": {"rank": 16, "alpha": 32},
}


class Work:
    """The texts, the whole model and the rows that were made."""

    def __init__(self, model: str, data: Path, made: Path, heal: int, judged: int) -> None:
        self.made = made
        read = TextData(root=str(data), train="valid.txt", test="test.txt", passage=2000)
        known = read.read("train")
        self.calibration: Sequence[Example] = known[:SAMPLES]
        self.healing: Sequence[Example] = known[SAMPLES : SAMPLES + heal]
        self.test = read.read("test")[:judged]
        shutil.rmtree(made / "teacher", ignore_errors=True)
        self.whole = import_teacher(model, "text-generation", None, made / "teacher")

    def apply(self, stage: str, fields: dict[str, Any], to: Candidate, train: Any) -> Candidate:
        """Apply a stage."""
        folder = self.made / "work"
        shutil.rmtree(folder, ignore_errors=True)
        context = replace(bare_context(folder, train, seed=7), teacher=self.whole)
        chosen: Any = stage_class(stage)
        found: Candidate = chosen.model_validate(fields).apply(to, context)
        return found

    def row(self, name: str, heals: bool) -> Iterator[dict[str, Any]]:
        """Cut the model and judge it, then heal it and judge it again; give what is known."""
        stage, fields = CUTS[name]
        began = time.process_time()
        candidate = self.whole
        if stage:
            samples = {} if stage == "prune.magnitude" else {"samples": SAMPLES}
            if fields.get("importance") == "activations":
                samples = {"samples": SAMPLES}
            candidate = self.apply(stage, {**fields, **samples}, candidate, self.calibration)
        found = {"cut s": time.process_time() - began, **self.judged(candidate)}
        yield found
        if heals and stage:
            began = time.process_time()
            kept = self.made / "cut"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(candidate.model.directory, kept)
            candidate = replace(candidate, model=type(candidate.model)(kept))
            healed = self.apply("distil", HEALING, candidate, self.healing)
            found["heal s"] = time.process_time() - began
            yield found | {"healed": self.judged(healed)["perplexity"]}

    def judged(self, candidate: Candidate) -> dict[str, float]:
        """Give perplexity on the test text, and MB."""
        from edgecompress.surgery.model import load_module

        module = load_module(candidate.model)
        rows = make_rows(candidate, self.test, module)
        answers = rows.task.decode(rows.outputs(module), rows)
        weights = sum(parameter.numel() for parameter in module.parameters())
        return {
            "perplexity": -rows.task.quality(answers, self.test, rows.classes),
            "MB": weights * 4 / 1e6,
        }


@click.command(help=__doc__)
@click.option("--model", required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--made", type=click.Path(path_type=Path), required=True)
@click.option("--heal", default=64, show_default=True, help="passages to heal on; 0: none")
@click.option("--judged", default=8, show_default=True, help="passages of the test text")
@click.option("--only", multiple=True, help="rows to make")
def main(model: str, data: Path, made: Path, heal: int, judged: int, only: tuple[str, ...]) -> None:
    """Make the rows that are missing, and show all."""
    made.mkdir(parents=True, exist_ok=True)
    file = made / "rows.json"
    rows = json.loads(file.read_text()) if file.is_file() else {}
    work: Work | None = None
    for name in only or CUTS:
        if name not in rows or (heal and CUTS[name][0] and "healed" not in rows[name]):
            work = work or Work(model, data, made, heal, judged)
            for row in work.row(name, heal > 0):
                rows[name] = row
                file.write_text(json.dumps(rows, indent=1) + "\n")
    print("| what is gone | MB | perplexity | healed |\n|---|--:|--:|--:|")
    for name, row in rows.items():
        healed = f"{row['healed']:.2f}" if "healed" in row else ""
        print(f"| {name} | {row['MB']:.1f} | {row['perplexity']:.2f} | {healed} |")


if __name__ == "__main__":
    main()
