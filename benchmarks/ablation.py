"""What each loss, each importance and each step is worth: one change at a time, on validation.

Run ``python benchmarks/ablation.py --model DIR --data DIR``. It distils the student of
``models/masakhaner-small.yaml`` for a part of its epochs, then changes one thing at a time; all
variants take the same number of steps. Scores are of the PyTorch model on the validation files, so
that nothing is chosen on test. Finished variants come from the store. ``--only`` takes names.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from edgecompress.api.progress import TerminalReporter
from edgecompress.engine.opening import open_start
from edgecompress.engine.pipeline import Pipeline
from edgecompress.engine.recipe import Recipe, build_recipe, load_recipe
from edgecompress.engine.run import observers
from edgecompress.engine.splits import read_splits
from edgecompress.store import Store, default_store
from edgecompress.tasks import task
from edgecompress.values import Json, find
from edgecompress.yamlfile import YamlFile

RECIPE = Path(__file__).parent.parent / "models" / "masakhaner-small.yaml"
COPIES = 4


@dataclass(frozen=True)
class Variant:
    """One change of the student's making.

    Attributes
    ----------
    group, name : str
    prune, vocabulary : mapping
        Stage and its fields.
    distil : mapping
        Fields of `distil` that differ from the base; a field of None is left out.
    teacher : bool
        False: `finetune` on the labels in place of `distil`.
    """

    group: str
    name: str
    prune: Mapping[str, Any] | None = None
    vocabulary: Mapping[str, Any] | None = None
    distil: Mapping[str, Any] = field(default_factory=dict)
    teacher: bool = True


SHAPE: Json = {"heads": 0.65, "ffn": 0.75}


def pruned(**fields: Any) -> Json:
    """Give the pruning stage of the base shape with some fields changed."""
    return {"prune.structured": {**SHAPE, **fields}}


VARIANTS = (
    Variant("base", "base"),
    Variant("importance", "taylor", prune=pruned(importance="taylor")),
    Variant("importance", "magnitude", prune=pruned(importance="magnitude", rearrange=False)),
    Variant("step", "no rearrangement", prune=pruned(rearrange=False)),
    Variant("step", "no reconstruction", prune=pruned(reconstruct=False)),
    Variant("step", "trim to 12,000", vocabulary={"vocabulary.trim": {"keep": 12000}}),
    Variant("step", "trim to 6,000", vocabulary={"vocabulary.trim": {"keep": 6000}}),
    Variant("step", "changed copies left out", distil={"transfer": None}),
    Variant("step", "words not changed in copies", distil={"transfer": {"augment": COPIES, "how": {
        "replace": 0.0}}}),
    Variant("loss", "logits alone", distil={"label_weight": 0.0, "layer_map": None}),
    Variant("loss", "no labels", distil={"label_weight": 0.0}),
    Variant("loss", "no hidden states", distil={"layer_map": None}),
    Variant("loss", "no logits", distil={"logits_weight": 0.0}),
    Variant("loss", "hidden states of all layers", distil={"layer_map": "uniform"}),
    Variant("loss", "hidden states of the last layer", distil={"layer_map": "last"}),
    Variant("loss", "learned layer map", distil={"layer_map": "learned"}),
    Variant("loss", "with relations", distil={"relation_weight": 1.0}),
    Variant("loss", "relations, no hidden states", distil={"relation_weight": 1.0,
                                                           "layer_map": None}),
    Variant("loss", "temperature 1", distil={"temperature": 1.0}),
    Variant("loss", "temperature 4", distil={"temperature": 4.0}),
    Variant("teacher", "no teacher", teacher=False),
)  # fmt: skip


def stages(variant: Variant, base: Sequence[Json], epochs: int) -> list[Json]:
    """Give the stages of a variant.

    Parameters
    ----------
    variant : Variant
    base : sequence of dict
        The recipe's stages up to `distil`.
    epochs : int
        Over the training examples and their copies; as many steps without copies.
    """
    prune, vocabulary, distil = base
    fields = {**distil["distil"], "epochs": epochs, **variant.distil}
    fields = {key: value for key, value in fields.items() if value is not None}
    if not fields.get("transfer"):
        fields["epochs"] = epochs * (1 + COPIES)
    last = {"distil": fields}
    if not variant.teacher:
        rate = fields["learning_rate"]
        last = {"finetune": {"epochs": epochs * (1 + COPIES), "learning_rate": rate}}
    return [dict(variant.prune or prune), dict(variant.vocabulary or vocabulary), last]


def score(recipe: Recipe, store: Store) -> float:
    """Run the recipe's chain and give the primary metric on validation."""
    splits, _ = read_splits(recipe)
    with TerminalReporter() as reporter:
        pipeline = Pipeline(recipe, store, splits, reporter)
        try:
            made = pipeline.run_chain(recipe.chains[0], open_start(pipeline)).candidate
            found = pipeline.observe(observers(recipe).evaluate, made)
        finally:
            pipeline.close()
    metric = task(str(recipe.fields.task)).metrics[0].name
    measured = find(found, metric, split="validation")
    if measured is None:
        raise click.ClickException(f"{metric} was not measured")
    return measured.value


@click.command()
@click.option("--model", required=True, help="Directory or hub id of the teacher.")
@click.option("--data", required=True, help="Root of the data files.")
@click.option("--epochs", default=1, show_default=True, help="Over training text and its copies.")
@click.option("--seeds", default="7", show_default=True)
@click.option("--only", multiple=True, help="Names of variants.")
@click.option("--threads", default=None, type=int)
@click.option("--store", type=click.Path(path_type=Path), default=None)
def main(
    model: str,
    data: str,
    epochs: int,
    seeds: str,
    only: tuple[str, ...],
    threads: int | None,
    store: Path | None,
) -> None:
    """Score every variant and print what each change costs."""
    place = Store(store or default_store())
    settings = [f"teacher.model={model}", f"data.root={data}"]
    settings += [f"threads={threads}"] if threads else []
    base = load_recipe(RECIPE, settings).document
    kept = base["stages"][:3]
    scores: dict[str, list[float]] = {}
    for variant in VARIANTS:
        if only and variant.name not in only:
            continue
        for seed in seeds.split(","):
            document = {**base, "seed": int(seed), "stages": stages(variant, kept, epochs)}
            document.pop("budget", None)
            recipe = build_recipe(YamlFile(document, None, {}), complete=False)
            scores.setdefault(variant.name, []).append(score(recipe, place))
    middle = {name: statistics.median(values) for name, values in scores.items()}
    reference = middle.get("base", max(middle.values()))
    click.echo(f"validation, median of seeds {seeds}, {epochs} epoch(s) with {COPIES} copies\n")
    click.echo("| what | change | score, points | against the base |\n|---|---|--:|--:|")
    for variant in VARIANTS:
        if variant.name in middle:
            points = 100 * middle[variant.name]
            gap = points - 100 * reference
            click.echo(f"| {variant.group} | {variant.name} | {points:.2f} | {gap:+.2f} |")


if __name__ == "__main__":
    main()
