"""The recipe for a model and a file of data: what costs nothing first, what must be trained last.

The order is that of cost, so that a good answer stands early however long the rest takes. The
shapes are those that worked best in docs/small.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from edgecompress.engine.found_data import FoundData, check_differ
from edgecompress.engine.found_model import FoundModel
from edgecompress.engine.opening import open_start
from edgecompress.engine.pipeline import Pipeline
from edgecompress.engine.recipe import Recipe, build_recipe
from edgecompress.engine.run_directory import slug
from edgecompress.engine.splits import Splits
from edgecompress.errors import ArgumentError
from edgecompress.progress import Reporter
from edgecompress.store import Store
from edgecompress.targets.fleet import find_fleet
from edgecompress.tasks import task as find_task
from edgecompress.texts import text_of
from edgecompress.values import Example, Json
from edgecompress.writing import replace_file
from edgecompress.yamlfile import YamlFile

TABLES: Json = {"embedding_bits": 4}
STATIC: Json = {"method": "average", **TABLES}
SMOOTH: Json = {"multiply": True}
SEEN = 20_000
"""Examples that a student is shown in all its epochs, where the data have fewer."""
LARGE, KEPT = 24_000, 20_000
"""Pieces of a vocabulary that is worth cutting, and how many of them stay."""
LATENCY = re.compile(r"(?P<most>[^@]+)(?:@(?P<target>.+))?")


def proposed(
    model: FoundModel,
    data: FoundData,
    *,
    max_drop: str,
    max_size: str | None = None,
    max_latency: str | None = None,
) -> Json:
    """Give the document of the recipe for what was found.

    Parameters
    ----------
    model : FoundModel
    data : FoundData
    max_drop, max_size : str
        Bounds as a recipe writes them, such as ``1%`` and ``25MB``.
    max_latency : str, optional
        ``20ms``, or ``20ms@TARGET``.

    Raises
    ------
    ArgumentError
        When the latency is not written so.
    """
    budget: Json = {}
    if model.task is not None:
        budget[find_task(model.task).metrics[0].name] = {"max_drop": max_drop}
    if max_size is not None:
        budget["size"] = {"max": max_size}
    targets = ["local"]
    if max_latency is not None:
        match = LATENCY.fullmatch(max_latency)
        if match is None:
            raise ArgumentError(f"the latency {max_latency!r} is not TIME@TARGET, as 20ms@pi5 is")
        target = match["target"] or "local"
        targets += [target] if target not in targets else []
        budget[f"latency_p50@{target}"] = {"max": match["most"].strip()}
    document: Json = {"name": slug(Path(model.named).name)[:80]}
    if model.task is not None:
        document["task"] = model.task
    if model.onnx:
        document["model"] = model.named
    else:
        document["teacher"] = {"model": model.named}
        if model.fresh:
            document["teacher"]["finetune"] = {}
    if data.document:
        document["data"] = data.document
    fleet = find_fleet()
    if targets != ["local"] and fleet.file is not None:
        document["fleet"] = str(fleet.file.absolute())
    chains = _onnx(model, data) if model.onnx else _torch(model, len(data.examples))
    return {
        **document,
        "seed": 7,
        "stages": [{"any": chains}],
        "targets": targets,
        "budget": budget,
        "minimize": "size",
    }


def _schemes_without_text() -> list[list[Any]]:
    """Give what is tried of models of images and sounds: there are no tables of words."""
    return [
        ["quantize.dynamic"],
        ["quantize.static"],
        [{"quantize.static": {"method": "average"}}],
        ["quantize.half"],
    ]


def _torch_without_text(model: FoundModel, examples: int) -> list[Any]:
    chains: list[Any] = [["export", *scheme] for scheme in _schemes_without_text()]
    if not model.cuttable:
        return chains
    ending = ["export", "quantize.static"]
    chains.append([{"prune.structured": {"heads": 0.1, "ffn": 0.2}}, *ending])
    taught = {"distil": {"epochs": _epochs(examples), "learning_rate": 3.0e-4, "warmup": 0.06}}
    cuts = ({"heads": 0.25, "ffn": 0.5}, {"heads": 0.65, "ffn": 0.75})
    return chains + [[{"prune.structured": cut}, taught, *ending] for cut in cuts]


def _epochs(examples: int) -> int:
    return min(30, max(3, SEEN // max(examples, 1)))


def _onnx(model: FoundModel, data: FoundData) -> list[Any]:
    if not model.reads_text:
        return _schemes_without_text()
    run: Json = {} if data.document else {"inputs": str(data.place)}
    if run and model.tokenizer is not None:
        run["preprocessor"] = model.tokenizer
    static = {"quantize.static": {**STATIC, **run}}
    return [
        ["quantize.dynamic"],
        [{"quantize.dynamic": TABLES}],
        [static],
        [{"quantize.smooth": {**SMOOTH, **run}}, static],
        [{"quantize.weights": run}],
    ]


def _torch(model: FoundModel, examples: int) -> list[Any]:
    own = find_task(str(model.task)).proposed
    if own:
        return [*own]
    if not model.reads_text:
        return _torch_without_text(model, examples)
    dynamic = [{"quantize.dynamic": TABLES}]
    static: list[Any] = [{"quantize.static": STATIC}]
    smooth = [{"quantize.smooth": SMOOTH}, *static]
    schemes = (dynamic, static, smooth)
    chains: list[Any] = [["export", "quantize.dynamic"]]
    chains += [["export", "fuse", *scheme] for scheme in schemes]
    if not model.cuttable:
        return chains
    pieces = model.config.get("vocab_size")
    large = isinstance(pieces, int) and pieces > LARGE
    trim: list[Any] = [{"vocabulary.trim": {"keep": KEPT, "alphabet": "scripts"}}] if large else []
    pruned: Json = {"prune.structured": {"heads": 0.1, "ffn": 0.2}}
    first: list[Any] = [trim] if large else []
    chains += [[*cut, "export", "fuse", *smooth] for cut in (*first, [pruned, *trim])]
    half: Json = {"prune.structured": {"heads": 0.25, "ffn": 0.5}}
    small: list[Any] = [{"prune.structured": {"heads": 0.65, "ffn": 0.75}}]
    if large:
        small.append({"vocabulary.share": {"rows": 6000}})
    taught = {"distil": {"epochs": _epochs(examples), "learning_rate": 3.0e-4, "warmup": 0.06,
              "layer_map": "uniform", "transfer": {"augment": 4}}}  # fmt: skip
    chains += [[*cut, taught, "export", "fuse", *dynamic] for cut in ([half], small)]
    return chains


def checked(document: Json, *, complete: bool = True) -> Recipe:
    """Check a proposed document as any recipe is checked; `complete` is that of `load_recipe`."""
    return build_recipe(YamlFile(document, None, {}), complete=complete)


def write_recipe(document: Json, file: Path, found: Sequence[str]) -> None:
    """Write the recipe with what was found above it."""
    said = "".join(f"#   {line}\n" for line in found)
    body = yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=100)
    again = "# To run it again, changed or not:\n#   edgecompress run recipe.yaml -o OUT\n"
    replace_file(file, f"# Written by edgecompress compress, which found:\n{said}{again}{body}")


class _Plain(yaml.SafeDumper):
    """Writes what stands twice in a document twice, and no references."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Have none."""
        return True


def answered(
    document: Json, data: FoundData, file: Path, store: Store, reporter: Reporter
) -> FoundData:
    """Have the model itself answer examples that nobody has labelled, and write both to `file`.

    Accuracy on such data is agreement with the model, which the data say of themselves.
    """
    kept = ("name", "task", "teacher", "model", "labels")
    asked = {key: document[key] for key in kept if key in document}
    tagged = find_task(document["task"]).target == "tags"
    examples = [_in_words(one) for one in data.examples] if tagged else data.examples
    pipeline = Pipeline(checked(asked, complete=False), store, Splits(), reporter)
    try:
        start = open_start(pipeline)
        reporter.begin("labels")
        found = pipeline.answers(start, examples)
    finally:
        pipeline.close()
    if find_task(document["task"]).labelled:
        given = {label for one in found.labels for label in one}
        said = "the file has no labels, and the model gives all of it the label"
        check_differ(given, said, data.place)
    reporter.end("the model's own answers, as the file has none: accuracy is agreement with it")
    lines = find_task(document["task"]).answered(examples, found)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    replace_file(file, text)
    made: Json = {"format": "jsonl", "root": ".", "train": file.name, "labelled_by": "model"}
    return replace(data, document=made | {"split": data.document["split"]})


def _in_words(one: Example) -> Example:
    return one if "words" in one.inputs else Example({"words": tuple(text_of(one).split())})
