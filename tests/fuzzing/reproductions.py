"""Bundles of strangers that are to be made again, by a recipe that says strange things."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from fuzzing.bundles import _files, _good, _sealed, _write
from fuzzing.case import Case
from fuzzing.mutation import mutated, strange
from fuzzing.recipes import typed_parts
from fuzzing.stock import Stock


def _made_from(model: bool) -> dict[str, Any]:
    """What a manifest says of how its bundle was made: from a teacher, or from an ONNX model."""
    steps = [{"stage": "teacher", "parameters": {}, "decisions": {}, "key": ""}]
    if model:
        recipe = {"name": "tiny", "model": "model.onnx", "stages": [{"quantize.dynamic": {}}]}
        return {"recipe": recipe, "steps": [steps[0] | {"stage": "quantize.dynamic"}]}
    recipe = {
        "name": "tiny", "task": "text-classification", "teacher": {"model": "teacher"},
        "stages": ["export", {"quantize.dynamic": {}}],
        "data": {"format": "tsv", "root": ".", "train": ["train.tsv"],
                 "validation": ["dev.tsv"], "test": ["test.tsv"]},
    }  # fmt: skip
    steps += [steps[0] | {"stage": stage} for stage in ("export", "quantize.dynamic")]
    return {"recipe": recipe, "steps": steps}


def reproductions(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """Bundles that are to be made again, whose manifest says strange things of how."""
    good = _good(stock.folder, "text-classification")
    files = _files(good)
    model = chance.random() < 0.5
    document = {**json.loads(files["manifest.json"]), **_made_from(model)}
    if chance.random() < 0.7:
        document["inputs"] = {}  # whose digests are compared before anything is made
    kinds = {key: type(value) for key, value in document.items()}
    for key in chance.choice((("recipe",), ("recipe",), ("inputs",), ("steps",), ("platform",))):
        document[key], told = mutated(chance, document[key] or {"x": 1}, chance.choice((1, 2)))
        if type(document[key]) is not kinds[key]:
            document[key] = {"x": strange(chance)}
    if chance.random() < 0.3:
        where = chance.choice(("/dev/zero", "../../etc/passwd", "/proc/self/mem", "nowhere/at/all"))
        told = chance.choice(("calibration", "inputs", "corpus", "file", "fleet", "teacher"))
        document |= _made_from(model)
        recipe = document["recipe"]
        if told in ("calibration", "inputs"):
            recipe["stages"][-1] = {"quantize.static": {told: where}}
            document["steps"][-1]["stage"] = "quantize.static"
        elif told == "corpus":
            recipe["stages"].insert(0, {"vocabulary.trim": {"corpus": [where], "keep": 90}})
            document["steps"].insert(1, document["steps"][0] | {"stage": "vocabulary.trim"})
        elif told == "file":
            recipe["profile"] = {"inputs": {"file": where}}
        else:
            recipe["fleet" if told == "fleet" else "model" if model else "teacher"] = where
        told = f"{told}: {where}"
    files["manifest.json"] = json.dumps(document).encode("utf-8", "surrogatepass")
    _write(_sealed(files), folder / "bundle")
    stock.data(folder / "data")
    typed = ("--model", str(stock.numbers)) if model else ("--data-root", "data")
    given = [f"{chance.choice(('seed', 'stages', 'model', 'x'))}={strange(chance)}"]
    given = given if chance.random() < 0.3 else []
    typed += tuple(word for one in given for word in ("--set", one))
    arguments = ("reproduce", "bundle", *typed, "--store", "fresh")
    names = ("bundle", "manifest", "data", "teacher", "fresh", "--set", "/dev/zero", "etc/passwd",
             "/proc/self/mem", "nowhere", "a" * 30, *typed_parts(given))  # fmt: skip
    return Case(arguments, names, told)


GENERATORS = {"reproduce": reproductions}
