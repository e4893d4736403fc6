"""What tests of ``edgecompress compress`` share: a model that answers rightly, files of data."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from small_encoders import write_encoder

from edgecompress.report.document import from_json
from edgecompress.results import RunResult
from edgecompress.texts import text_of
from edgecompress.values import Example

QUICK = (
    "--set", "profile.min_duration_ms=20", "--set", "profile.warmup_ms=1",
    "--set", "profile.max_warmup_ms=2", "--set", "profile.min_count=10",
    "--set", "profile.cold_starts=0", "--set", "profile.attempts=1",
)  # fmt: skip
ONE = ("--set", "stages=[{any: [[export, quantize.dynamic]]}]")
MADE = 60


def taught(folder: Path, task: str, examples: Sequence[Example]) -> Path:
    """Write a tiny BERT in Hugging Face's form that answers `examples` rightly, by a few steps."""
    import torch

    from edgecompress.processors import TextProcessor
    from edgecompress.surgery.model import load_module, save_module
    from edgecompress.tasks import task as find_task

    made = write_encoder(folder / "made", "Bert", task)
    module = load_module(made.model).train()
    module.resize_token_embeddings(module.config.vocab_size + 8)  # room for BERT's [MASK]
    rows = find_task(task).rows(examples, TextProcessor.load(made.preprocessor), made.labels)
    batch = rows.batch(range(len(rows)), ("input_ids", "attention_mask"))
    feed = {key: torch.from_numpy(value) for key, value in batch.items()}
    wide = feed["input_ids"].shape[1]
    labels = torch.full((len(rows), wide), -100)
    for place, row in enumerate(rows.rows):
        label = torch.as_tensor(row.target["labels"]).reshape(-1)
        labels[place, : len(label)] = label
    labels = labels if task == "token-classification" else labels[:, 0]
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(module.parameters(), 5e-3)
    for _ in range(60):
        loss = module(**feed, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.05
    save_module(module.eval(), folder / "model")
    shutil.copytree(made.preprocessor, folder / "model", dirs_exist_ok=True)
    shutil.rmtree(folder / "made")
    return folder / "model"


def write_csv(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with file.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return file


def write_lines(file: Path, rows: Sequence[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def texts_file(folder: Path, examples: Sequence[Example]) -> Path:
    file = folder / "texts.txt"
    file.write_text("".join(f"{text_of(one)}\n" for one in examples))
    return file


def result_of(out: Path) -> RunResult:
    return from_json((out / "results.json").read_text())


def on_one_line(said: str) -> str:
    return " ".join(said.split())
