"""Many shapes of all described families through ``edgecompress compress``, with made-up texts.

Run ``python benchmarks/compress_families.py``: for each family and each of two tasks it writes a
checkpoint with random weights and its tokenizer, gives it to `edgecompress.compress` with texts
that nobody has labelled, loads the bundle and asks it. It prints a line for each, and exits with 1
where one ended without a bundle that answers. Of random weights only agreement with the model
itself can be asked, and int8 loses much of it in models so small, so that any drop is allowed;
what answers all texts alike is passed over when the checkpoint is made.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

TASKS = {
    "text-classification": ("bad", "good"),
    "token-classification": ("O", "B-LOC", "B-PER"),
}
SEEDS = 40
"""Checkpoints that are tried until one gives different answers."""
RAREST = 0.2
"""Least share of the second most frequent answer."""
QUICK = {
    "profile.min_duration_ms": 100,
    "profile.warmup_ms": 10,
    "profile.max_warmup_ms": 50,
    "profile.min_count": 40,
    "profile.cold_starts": 0,
    "profile.attempts": 1,
}


def write_model(folder: Path, family: str, task: str, texts: list[str]) -> bool:
    """Write a checkpoint that gives different answers; False where none of `SEEDS` does."""
    import torch
    from checkpoints import write_checkpoint  # type: ignore[import-not-found]
    from tokenizers import Tokenizer

    for seed in range(SEEDS):
        shutil.rmtree(folder, ignore_errors=True)
        module: Any = write_checkpoint(folder, family, task, TASKS[task], seed=seed)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        counts: Counter[int] = Counter()
        with torch.no_grad():
            for text in texts[:60]:
                logits = module(torch.tensor([tokenizer.encode(text).ids])).logits
                counts.update(logits.argmax(-1).reshape(-1).tolist())
        if len(counts) > 1 and counts.most_common()[1][1] > RAREST * counts.total():
            return True
    return False


def tried(folder: Path, family: str, task: str, limit: str) -> tuple[str, bool]:
    """Compress one model; give the line that tells of it, and whether a bundle answers."""
    from helpers import labelled_texts  # type: ignore[import-not-found]

    import edgecompress
    from edgecompress.texts import text_of
    from edgecompress.values import find

    texts = [text_of(one) for one in labelled_texts(400)]
    if not write_model(folder / "model", family, task, texts):
        return f"| {family} | {task} | no checkpoint gives different answers | | | |", False
    data = folder / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    started = time.monotonic()
    found = edgecompress.compress(
        folder / "model",
        folder / "out",
        data=data,
        max_drop="100%",
        time=limit,
        settings=QUICK,
        store=folder / "store",
        progress=False,
    )
    seconds = time.monotonic() - started
    row = next((one for one in found.rows if one.name == found.winner), None)
    if found.bundle is None or row is None:
        return f"| {family} | {task} | {found.verdict.reason} | | | {seconds:.0f} |", False
    answer = edgecompress.load(found.bundle).predict(texts[0])
    agreement = find(row.measurements, "agreement", split="test")
    shown = f"{agreement.value:.1%}" if agreement is not None else ""
    failed = sum(one.error is not None and one.tried for one in found.rows)
    line = f"| {family} | {task} | {found.winner} | {shown} | {failed} | {seconds:.0f} |"
    return line, answer is not None


@click.command()
@click.option("--time", "limit", default="60s", show_default=True, help="For each model.")
@click.option("--only", multiple=True, help="Families, such as Bert.")
def main(limit: str, only: tuple[str, ...]) -> None:
    """Print a Markdown table: what was chosen, how often it agrees, how many candidates failed."""
    from checkpoints import FAMILIES

    from edgecompress.errors import EdgeCompressError

    click.echo("| family | task | chosen | agreement on test | failed | seconds |")
    click.echo("|---|---|---|--:|--:|--:|")
    good = True
    for family in only or FAMILIES:
        for task in TASKS:
            with tempfile.TemporaryDirectory(prefix="edgecompress-") as place:
                try:
                    line, answers = tried(Path(place), family, task, limit)
                except EdgeCompressError as error:
                    line, answers = f"| {family} | {task} | {error} | | | |", False
            good &= answers
            click.echo(line)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
