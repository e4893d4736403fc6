"""Shapes of many families through ``edgecompress compress``, with made-up texts.

Run ``python benchmarks/compress_families.py``: for each family and each of two tasks it writes a
checkpoint with random weights and its tokenizer, gives it to `edgecompress.compress` with texts
that nobody has labelled, loads the bundle and asks it. It prints a line for each, and exits with 1
where one ended without a bundle that answers. Of random weights only agreement with the model
itself can be asked, and int8 loses much of it in models so small, so that any drop is allowed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

TASKS = {
    "text-classification": ("bad", "good"),
    "token-classification": ("O", "B-LOC", "B-PER"),
}
SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "Bert": {}, "Roberta": {}, "XLMRoberta": {}, "DistilBert": {"intermediate_size": None,
    "hidden_dim": 64}, "Electra": {}, "Albert": {}, "Camembert": {}, "ModernBert": {}, "MPNet": {},
    "Ernie": {}, "RoFormer": {}, "NomicBert": {},
    "DebertaV2": {
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8,
        "position_biased_input": False, "type_vocab_size": 0,
    },
    "MobileBert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "BigBird": {"attention_type": "original_full"},
    "SqueezeBert": {
        "embedding_size": 32, "q_groups": 1, "k_groups": 1, "v_groups": 1,
        "post_attention_groups": 1, "intermediate_groups": 1, "output_groups": 1,
    },
    "Qwen3": {"num_key_value_heads": 2, "head_dim": 8},
}  # fmt: skip
"""Classes of transformers without their endings, and fields of their configurations."""
QUICK = {
    "profile.min_duration_ms": 100,
    "profile.warmup_ms": 10,
    "profile.max_warmup_ms": 50,
    "profile.min_count": 40,
    "profile.cold_starts": 0,
    "profile.attempts": 1,
}


def write_model(folder: Path, family: str, task: str, texts: list[str]) -> None:
    """Write a checkpoint whose answers differ from text to text.

    Norms scale by one, pieces differ more than a fresh model's, and the head's biases are moved to
    the answers' median.
    """
    import torch
    from checkpoints import write_checkpoint  # type: ignore[import-not-found]
    from safetensors.torch import save_file
    from tokenizers import Tokenizer

    module: Any = write_checkpoint(folder, family, task, TASKS[task], **SHAPE | SHAPES[family])
    settings = folder / "tokenizer_config.json"
    plain = {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | plain))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    given = [torch.tensor([tokenizer.encode(text).ids]) for text in texts[:60]]
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.Embedding):
                part.weight.normal_(0.0, 1.0)
            elif "Norm" in type(part).__name__ and hasattr(part, "weight"):
                part.weight.fill_(1.0)
        logits = [module(ids).logits.reshape(-1, len(TASKS[task])) for ids in given]
        for part in reversed(list(module.modules())):
            if isinstance(part, torch.nn.Linear) and part.out_features == len(TASKS[task]):
                part.bias = torch.nn.Parameter(
                    (0 if part.bias is None else part.bias) - torch.cat(logits).median(0).values
                )
                break
    save_file(module.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})


def tried(folder: Path, family: str, task: str, limit: str) -> tuple[str, bool]:
    """Compress one model; give the line that tells of it, and whether a bundle answers."""
    from helpers import labelled_texts  # type: ignore[import-not-found]

    import edgecompress
    from edgecompress.texts import text_of
    from edgecompress.values import find

    texts = [text_of(one) for one in labelled_texts(400)]
    write_model(folder / "model", family, task, texts)
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
    candidates = [row for row in found.rows if row.kind == "candidate" and row.tried]
    failed = [row for row in candidates if row.error is not None]
    made = f"{len(candidates) - len(failed)} of {len(candidates)}"
    for one in failed:
        click.echo(f"{family}, {task}, {one.name}: {one.error}", err=True)
    row = next((one for one in found.rows if one.name == found.winner), None)
    if found.bundle is None or row is None:
        return f"| {family} | {task} | {made} | {found.verdict.reason} | | | {seconds:.0f} |", False
    answer = edgecompress.load(found.bundle).predict(texts[0])
    values = (
        find(row.measurements, "compression"),
        find(row.measurements, "agreement", split="test"),
    )
    ratio, same = (None if one is None else one.value for one in values)
    shown = f"{ratio or 0:.2f}× | {same or 0:.1%}"
    line = f"| {family} | {task} | {made} | {found.winner} | {shown} | {seconds:.0f} |"
    return line, answer is not None


@click.command()
@click.option("--time", "limit", default="60s", show_default=True, help="For each model.")
@click.option("--only", multiple=True, help="Families, such as Bert.")
def main(limit: str, only: tuple[str, ...]) -> None:
    """Print a Markdown table: candidates made, what was chosen, and what became of it."""
    from edgecompress.errors import EdgeCompressError

    click.echo("| family | task | made | chosen | smaller | agreement on test | seconds |")
    click.echo("|---|---|--:|---|--:|--:|--:|")
    good = True
    for family in only or SHAPES:
        for task in TASKS:
            with tempfile.TemporaryDirectory(prefix="edgecompress-") as place:
                try:
                    line, answers = tried(Path(place), family, task, limit)
                except EdgeCompressError as error:
                    line, answers = f"| {family} | {task} | | {error} | | | |", False
            good &= answers
            click.echo(line)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
