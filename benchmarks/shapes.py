"""How fast a shape would be: layers and widths beside the stock export, nothing trained.

Run ``python benchmarks/shapes.py --model DIR --data DIR --made DIR --shape 4x256:4x32:512``.
A shape is layers x hidden width : heads x head width : neurons of each layer (of all alike, or one
by one: ``4x384:5,3,4,1x32:448,384,192,64``). The weights are random, as times do not hang on them.
Each model is exported, fused and quantized (int8, the embedding in 4 bits, whose pieces share
``--rows`` rows), and all are timed in turn, inference by inference, on validation sentences.
``--made`` keeps the graphs, so that making them (``--no-time``) and timing them on a quiet machine
can be two commands.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from bare import bare_context

from edgecompress.engine.opening import open_start
from edgecompress.engine.pipeline import Pipeline
from edgecompress.engine.recipe import load_recipe
from edgecompress.engine.splits import read_splits
from edgecompress.stage import Decisions, Transform, stage_class
from edgecompress.store import Store, default_store
from edgecompress.targets.measure import time_interleaved
from edgecompress.values import Candidate, TorchModel, find

RECIPE = Path(__file__).parent.parent / "models" / "masakhaner-small.yaml"
FUSED = {"fusions": ["attention", "gelu"], "disabled_optimizers": ["SkipLayerNormFusion"]}


def random_model(like: TorchModel, shape: str, rows: int, folder: Path) -> TorchModel:
    """Write a model of a shape, with random weights, of the family and vocabulary of another."""
    import torch

    from edgecompress.surgery.families import blocks, word_embedding, word_path
    from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
    from edgecompress.surgery.hidden import keep_hidden
    from edgecompress.surgery.model import model_class, read_config, save_module
    from edgecompress.surgery.sharing import share_rows

    body, attention, neurons = shape.split(":")
    layers, hidden = (int(number) for number in body.split("x"))
    heads, width = attention.split("x")
    config = read_config(like.directory)
    config.num_hidden_layers = layers
    config.num_attention_heads = config.hidden_size // int(width)
    module = model_class(config, like.directory)._from_config(
        config, attn_implementation="eager", dtype=torch.float32
    )
    keep_hidden(module, range(hidden))
    each = len(list(blocks(module)))
    keep_heads_and_neurons(module, _each(heads, each), _each(neurons, each))
    if rows:
        pieces = word_embedding(module).num_embeddings
        share_rows(module.base_model, word_path(module), np.arange(pieces) % rows, range(rows))
    return save_module(module.eval(), folder)


def _each(counts: str, layers: int) -> list[range]:
    """Read one number for all layers, or one for each: ``5,3,4,1``."""
    found = [int(count) for count in counts.split(",")]
    return [range(count) for count in (found if len(found) > 1 else found * layers)]


def small(start: Candidate, texts: Any, folder: Path) -> Candidate:
    """Export, fuse and quantize."""
    found = start
    steps: tuple[tuple[str, dict[str, Any]], ...] = (
        ("export", {}), ("fuse", {}), ("quantize.dynamic", {"embedding_bits": 4}),
    )  # fmt: skip
    for name, fields in steps:
        stage = cast(Transform, stage_class(name)(**fields))
        last = name == "quantize.dynamic"
        context = bare_context(folder if last else folder / name, texts, texts)
        if name == "fuse":
            found = stage.make(found, Decisions(FUSED), context)
        else:
            found = stage.apply(found, context)
    return found


@click.command()
@click.option("--model", required=True, help="Directory or hub id of the model.")
@click.option("--data", required=True, help="Root of the data files.")
@click.option("--shape", "shapes", multiple=True, required=True)
@click.option("--rows", default=6000, show_default=True, help="Of the embedding; 0: all.")
@click.option("--made", type=click.Path(path_type=Path), required=True)
@click.option("--time/--no-time", "timed", default=True, show_default=True)
def main(
    model: str, data: str, shapes: tuple[str, ...], rows: int, made: Path, timed: bool
) -> None:
    """Print a Markdown table of sizes and times."""
    recipe = load_recipe(RECIPE, [f"teacher.model={model}", f"data.root={data}"])
    splits, _ = read_splits(recipe)
    pipeline = Pipeline(recipe, Store(default_store()), splits)
    start = open_start(pipeline)
    texts = splits.validation
    candidates = []
    for shape in (None, *shapes):
        place = made / (f"{shape}:{rows}" if shape else "stock").replace(":", "-")
        if not (place / "candidate.json").is_file():
            own = start
            if shape is not None:
                made_up = random_model(cast(TorchModel, start.model), shape, rows, place / "torch")
                own = replace(start, model=made_up)
                found = small(own, texts, place)
            else:
                export = cast(Transform, stage_class("export")())
                found = export.apply(own, bare_context(place, texts, texts))
            found.save(place)
        candidates.append(replace(Candidate.load(place), preprocessor=start.preprocessor))
    if not timed:
        return
    click.echo("| layers x width : heads : neurons | MB | ms | × faster |\n|---|--:|--:|--:|")
    times = time_interleaved(candidates, texts)
    for name, candidate, measured in zip(("stock fp32", *shapes), candidates, times, strict=True):
        files = [path for path in candidate.model.directory.iterdir() if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
        p50, speedup = find(measured, "latency_p50"), find(measured, "speedup")
        assert p50 is not None
        low, high = (speedup.interval if speedup else None) or (1.0, 1.0)
        faster = f"{speedup.value:.2f} ({low:.2f}–{high:.2f})" if speedup else "1"
        doubt = f" not valid: {p50.invalid}" if p50.invalid else ""
        click.echo(f"| {name} | {size:.2f} | {p50.value:.3f} | {faster}{doubt} |")
    pipeline.close()


if __name__ == "__main__":
    main()
