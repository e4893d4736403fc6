"""Graphs of both exporters side by side: how long they take, how they fuse, how fast they run.

Run ``python benchmarks/exporters.py -o DIR``. For eight families of text encoders, with random
weights and with uneven heads and neurons pruned where the family is described, it exports with
PyTorch's exporter and, where it is installed, with Optimum's, fuses each graph in full, and prints
a Markdown table. Optimum needs transformers 4.57: run it in an environment of each, and give the
second run the folder of the first (``--beside``), whose graphs are then timed in turn with its own.
What lies in DIR already is not exported again.

Times are of the one thread that computes, without what other programs take from it; ONNX Runtime's
``SkipLayerNormFusion``, which costs time on many processors, is off.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgecompress.values import Json

FAMILIES: dict[str, dict[str, Any]] = {
    "Bert": {},
    "XLMRoberta": {"pad_token_id": 1},
    "DistilBert": {},
    "Electra": {"embedding_size": 64},
    "Albert": {"embedding_size": 64, "num_hidden_groups": 1},
    "MPNet": {"pad_token_id": 1},
    "ModernBert": {
        "local_attention": 32, "global_attn_every_n_layers": 3, "reference_compile": False,
        "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
    },
    "DebertaV2": {
        "relative_attention": True, "position_buckets": 32, "norm_rel_ebd": "layer_norm",
        "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
        "type_vocab_size": 0,
    },
}  # fmt: skip
NO_FAMILY = frozenset({"MPNet", "DebertaV2"})
"""Families that edgecompress does not describe: it does not prune them."""
TASK, WORDS = "text-classification", 1000
KERNELS = (
    "Attention", "MultiHeadAttention", "RotaryEmbedding", "EmbedLayerNormalization",
    "SkipLayerNormalization", "LayerNormalization", "BiasGelu", "FastGelu", "Gelu",
)  # fmt: skip
SKIP = "skip_layer_norm"
ALL = ("attention", "gelu", "layer_norm", SKIP, "embed_layer_norm")
SLOW = "SkipLayerNormFusion"
COLUMNS = (
    "family", "form", "exporter, transformers", "export, s", "nodes, fused",
    "kernels of the fused graph", "difference", "exported, ms", "fused, ms", "int8, ms",
)  # fmt: skip
SHAPES = ((1, 4), (2, 20), (3, 50))
"""Batch and length of the inputs for which a fused graph is compared with the exported one."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of the models: fields of a configuration."""

    layers: int
    width: int
    heads: int


def build(family: str, size: Size, *, pruned: bool) -> Any:
    """Build a module with random weights, biases too; `pruned` takes heads and neurons away."""
    import torch
    import transformers

    from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons

    config = getattr(transformers, f"{family}Config")(
        vocab_size=WORDS,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=512,
        **{("hidden_dim" if family == "DistilBert" else "intermediate_size"): 4 * size.width},
        **({"pad_token_id": 0} | FAMILIES[family]),
    )
    config.return_dict = True
    module = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    torch.manual_seed(0)
    with torch.no_grad():  # biases too: fresh ones are all zero, and one constant in a graph
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.05)
    if pruned:
        layers = 1 if family == "Albert" else size.layers
        heads = [range(size.heads - 1 - index % 2) for index in range(layers)]
        neurons = [range(0, 4 * size.width, 2 + index % 2) for index in range(layers)]
        keep_heads_and_neurons(module, heads, neurons)
    return module


def exported(module: Any, family: str, exporter: Any, target: Path) -> float:
    """Export a module; give the seconds of processor time that this takes."""
    import torch

    from edgecompress.processors.text import AXES
    from edgecompress.quantization.graphs.exporting import export_graph
    from edgecompress.surgery.dynamo_export import Traced

    traced = None
    if family in NO_FAMILY:
        ones = torch.ones((2, 7), dtype=torch.int64)
        example = {"input_ids": ones, "attention_mask": ones}
        traced = Traced(example, dict.fromkeys(example, AXES), ("logits",))
    started = time.process_time()
    export_graph(module, TASK, target, exporter, traced=traced)
    return time.process_time() - started


def written(path: Path) -> Json:
    """Write the fused forms of a graph beside it; tell its nodes, and how far answers differ."""
    from edgecompress.models.storage import read_model, write_model
    from edgecompress.quantization.graphs.fusion import fuse, operator_counts
    from edgecompress.quantization.plan.scheme import Scheme
    from edgecompress.quantization.write.writer import rewrite

    before = operator_counts(path)
    everything, fused = (path.with_name(f"{name}.onnx") for name in ("all", "fused"))
    fuse(path, ALL, "bert", everything)
    fuse(path, [name for name in ALL if name != SKIP], "bert", fused)
    write_model(rewrite(read_model(fused), Scheme())[0], path.with_name("int8.onnx"))
    after = operator_counts(everything)
    plain, other = session(path), session(everything)
    gaps = []
    for shape in SHAPES:
        feed = made_up(plain, *shape)
        expected, found = plain.run(None, feed)[0], other.run(None, feed)[0]
        gaps.append(np.abs(expected - found).max() / np.abs(expected).max())
    return {
        "nodes": sum(n for op, n in before.items() if op != "Constant"),
        "fused_nodes": sum(n for op, n in after.items() if op != "Constant"),
        "kernels": {op: after[op] for op in KERNELS if op in after},
        "difference": float(max(gaps)),
    }


def session(path: Path) -> Any:
    """Open a graph for one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry("optimization.disable_specified_optimizers", SLOW)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def made_up(opened: Any, batch: int, length: int) -> dict[str, Any]:
    """Make up an input; of the rows but the first the end is padding."""
    draw = np.random.default_rng((batch, length))
    mask = np.ones((batch, length), np.int64)
    for row in range(1, batch):
        mask[row, length - row * (length // (batch + 1)) :] = 0
    known = {
        "input_ids": np.where(mask == 1, draw.integers(3, WORDS, (batch, length)), 0),
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(mask),
    }
    return {value.name: known[value.name] for value in opened.get_inputs()}


def timed(paths: Sequence[Path], length: int, seconds: float) -> list[float]:
    """Give the median of each graph in milliseconds of its thread; they take turns."""
    sessions = [session(path) for path in paths]
    feeds = [made_up(opened, 1, length) for opened in sessions]
    found: list[list[float]] = [[] for _ in paths]
    end = time.monotonic() + seconds * len(paths)
    while time.monotonic() < end or len(found[0]) < 10:
        for opened, feed, times in zip(sessions, feeds, found, strict=True):
            started = time.thread_time()
            opened.run(None, feed)
            times.append((time.thread_time() - started) * 1e3)
    return [statistics.median(times[2:]) for times in found]


def rows_of(folder: Path) -> list[Json]:
    """Read what a run noted of the graphs of a family in one of its forms."""
    return [
        json.loads(file.read_text()) | {"folder": str(file.parent)}
        for file in sorted(folder.glob("*/found.json"))
    ]


def line(family: str, form: str, row: Json, times: Sequence[float]) -> str:
    """Give a row of the table."""
    kernels = ", ".join(f"{n} {op}" for op, n in row["kernels"].items())
    shown = " | ".join(f"{each:.2f}" for each in times)
    return (
        f"| {family} | {form} | {row['exporter']}, {row['transformers']} | {row['seconds']:.1f} | "
        f"{row['nodes']} → {row['fused_nodes']} | {kernels} | {row['difference']:.0e} | {shown} |"
    )


@click.command()
@click.option("-o", "out", type=click.Path(path_type=Path), required=True, help="For the graphs.")
@click.option("--beside", type=click.Path(path_type=Path, exists=True), help="Of another run.")
@click.option("--only", multiple=True, help="Families, such as Bert.")
@click.option("--exporter", "wanted", multiple=True, help="dynamo, optimum; else all here.")
@click.option("--layers", default=3, show_default=True)
@click.option("--width", default=256, show_default=True)
@click.option("--heads", default=4, show_default=True)
@click.option("--length", default=64, show_default=True, help="Tokens of the text that is timed.")
@click.option("--seconds", default=2.0, show_default=True, help="Of timing, for each graph.")
def main(
    out: Path, beside: Path | None, only: tuple[str, ...], wanted: tuple[str, ...], layers: int,
    width: int, heads: int, length: int, seconds: float,
) -> None:  # fmt: skip
    """Print a Markdown table of graphs by exporter."""
    import transformers

    from edgecompress.surgery.onnx_export import optimum_is_installed

    exporters = ("dynamo", *(["optimum"] if optimum_is_installed() else []))
    click.echo(f"| {' | '.join(COLUMNS)} |")
    click.echo("|---|---|---|--:|--:|---|--:|--:|--:|--:|")
    for family in only or FAMILIES:
        for form in ("plain", *([] if family in NO_FAMILY else ["pruned"])):
            for exporter in wanted or exporters:
                name = f"{exporter}-{transformers.__version__}"
                target = out / family / form / name / "model.onnx"
                if (target.parent / "found.json").exists():
                    continue
                module = build(family, Size(layers, width, heads), pruned=form == "pruned")
                took = exported(module, family, exporter, target)
                noted = {"exporter": exporter, "transformers": transformers.__version__}
                noted |= {"seconds": took, **written(target)}
                (target.parent / "found.json").write_text(json.dumps(noted))
            folders = [out, *([beside] if beside else [])]
            rows = [row for folder in folders for row in rows_of(folder / family / form)]
            graphs = [
                Path(row["folder"]) / f"{name}.onnx"
                for row in rows
                for name in ("model", "fused", "int8")
            ]
            times = timed(graphs, length, seconds)
            for index, row in enumerate(rows):
                click.echo(line(family, form, row, times[3 * index : 3 * index + 3]))


if __name__ == "__main__":
    sys.exit(main())
