"""Recipes, matrices, fleets, settings and calibration sets, in every way that they go wrong."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

from fuzzing.case import Case
from fuzzing.mutation import damaged, misplaced, mutated, spoilt, strange
from fuzzing.stock import Stock

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
DATA: tuple[dict[str, Any], ...] = (
    {"format": "conll", "root": "data", "train": ["train.conll"], "validation": "dev.conll",
     "test": "test.conll"},
    {"format": "tsv", "root": "data", "train": ["train.tsv"], "validation": "dev.tsv",
     "test": ["test.tsv"], "columns": {"text": "text", "label": "label"}},
    {"format": "text", "root": "data", "train": ["train.txt"], "validation": "dev.txt",
     "test": "test.txt"},
    {"format": "csv", "root": "data", "train": ["train.csv"], "validation": "dev.csv",
     "split": {"test": 0.2, "group": "id"}},
    {"format": "jsonl", "root": "data", "train": ["train.jsonl"], "validation": "dev.jsonl",
     "test": "test.jsonl", "classes": ["O", "B-PER", "B-LOC"]},
)  # fmt: skip
TASKS = ("token-classification", "text-classification", "masked-lm", "text-classification",
         "token-classification")  # fmt: skip
TEACHER = {
    "new": {"layers": 2, "hidden_size": 32, "heads": 2, "intermediate_size": 64,
            "vocabulary": 200},
    "finetune": {"epochs": 1, "learning_rate": 5.0e-4, "batch_size": 8},
}  # fmt: skip
STAGES: tuple[list[Any], ...] = (
    [{"any": [[], [{"prune.structured": {"heads": 0.25, "ffn": 0.5}},
                   {"distil": {"epochs": 2, "batch_size": 8}}]]},
     {"any": [["export", {"fuse": {"fusions": ["attention"]}}, "quantize.dynamic"],
              [{"quantize.inc_static": {"calibration": "quickstart", "samples": 8}}]]}],
    [{"prune.magnitude": {"sparsity": {"each": [0.5, 0.9]}}}, "export",
     {"quantize.static": {"calibration": "calibration.yaml", "samples": 4}}],
    [{"vocabulary.trim": {"corpus": ["train", {"file": "data/dev.txt", "format": "text"}],
                          "keep": 100}}, "export", {"quantize.weights": {}}],
    ["export", {"quantize.static": {"inputs": "arrays", "preprocessor": "tokenizer"}}],
)  # fmt: skip
CALIBRATION = {
    "name": "mine", "description": "x", "split": "train", "choose": "kcentre", "samples": 4,
    "seed": 1, "source": "", "licence": "",
}  # fmt: skip
FLEET: dict[str, Any] = {
    "pi4": "ssh://pi@raspberrypi.local",
    "pi5": {"url": "ssh://pi@192.168.1.7:2222", "key": "~/.ssh/id_ed25519", "samples": 200,
            "python": "/usr/bin/python3", "connect_timeout_s": 3, "meter": "power.csv"},
    "a72": "emulated://cortex-a72",
    "here": {"url": "local", "any_governor": True, "meter": "power.csv"},
}  # fmt: skip


def good_recipe(chance: random.Random) -> dict[str, Any]:
    """A recipe that `check` accepts."""
    which = chance.randrange(len(DATA))
    return {
        "name": "tried",
        "task": TASKS[which],
        "teacher": TEACHER,
        "data": DATA[which],
        "seed": 7,
        "threads": 1,
        "stages": chance.choice(STAGES),
        "profile": {"cold_starts": 1, "threads": [1], "min_duration_ms": 10},
        "targets": ["local"],
        "licences": {"model": "Apache-2.0", "data": "CC-BY-4.0"},
        "budget": {"size": {"max": "10MB"}, "speedup@local": {"min": "2x"}},
        "minimize": "size",
    }


def good_matrix(chance: random.Random) -> dict[str, Any]:
    """A recipe with axes that `check` accepts."""
    recipe = good_recipe(chance)
    del recipe["seed"]
    return {
        **recipe,
        "name": "tried-{rate}",
        "teacher": {**TEACHER, "finetune": {"epochs": "{epochs}", "learning_rate": "{rate}"}},
        "matrix": {"seed": [7, 8], "rate": [0.1, 0.2], "epochs": 3},
    }


def write(chance: random.Random, document: Any, file: Path) -> None:
    """Write a document as YAML, in one of its styles."""
    style = chance.choice((None, True, False))
    fields = {"sort_keys": False, "default_flow_style": style, "allow_unicode": False}
    try:
        text = yaml.dump(document, Dumper=DUMPER, **fields)
    except UnicodeEncodeError:  # the quick one writes no surrogates
        text = yaml.safe_dump(document, **fields)
    file.write_text(text, encoding="utf-8")


def surroundings(chance: random.Random, folder: Path, stock: Stock) -> None:
    """Write the files that the recipes name."""
    stock.data(folder / "data")
    write(chance, CALIBRATION, folder / "calibration.yaml")
    (folder / "arrays").mkdir()


def bomb(chance: random.Random, good: str) -> tuple[str, str]:
    """YAML that is small and builds much, or is deep, or of a tag that nobody asked for."""
    levels = range(1, chance.choice((8, 14)))
    alias = "a0: &a0 {x: 1}\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in levels
    )
    merge = "a0: &a0 {x: 1}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], y{n}: 1}}\n" for n in levels
    )
    choices = {
        "aliases": alias + good,
        "merges": merge + good,
        "merges alone": merge.replace("a0: ", "name: ", 1),
        "recursion": "me: &me [*me]\n" + good,
        "merged into itself": "me: &me {<<: *me}\n" + good,
        "deep": good + "deep: " + "[" * 5000 + "]" * 5000 + "\n",
        "deep mapping": good + "deep: " + "{a: " * 3000 + "1" + "}" * 3000 + "\n",
        "deeper": "[" * 200_000,
        "many": good + "many: [" + "1," * 300_000 + "]\n",
        "many keys": good + "".join(f"k{n}: {n}\n" for n in range(60_000)),
        "long": good + "long: " + "a" * 8_000_000 + "\n",
        "long line of tabs": "\t" * 1_000_000,
        "documents": good + "---\n" + good,
        "tag": good + "x: !!python/object/apply:os.system ['true']\n",
        "set": good + "x: !!set {a, b}\n",
        "binary": good + "name: !!binary aGVsbG8=\n",
        "pairs": "!!pairs [a: 1, b: 2]\n",
        "omap": good + "stages: !!omap [a: 1]\n",
        "date": good.replace("tried", "2024-01-01"),
        "no date": good + "x: 2024-13-45\n",
        "big number": good + f"x: {'9' * 6000}\n",
        "sixties": good + "x: 1" + ":59" * 3000 + "\n",
        "key of a list": good + "? [a, b]\n: 1\n",
        "key of nothing": good + "~: 1\n? 2024-01-01\n: 1\n1.5: 2\n",
        "key of a mapping": "? {a: 1}\n: 1\n" + good,
        "two keys": good + good,
        "scalar": "just words",
        "list": "- a\n- b\n",
        "nothing": chance.choice(("", "# words\n", "---\n", "~\n", "\n\n")),
        "equals": good + "x: =\ny: <<\n<<: 3\n",
    }
    told = chance.choice(list(choices))
    return choices[told], told


def _file(chance: random.Random, file: Path, document: Any) -> str:
    """Write one hostile YAML file; most are trees with something changed."""
    way = chance.random()
    write(chance, document, file)
    if way < 0.6:
        changed, told = mutated(chance, document, chance.choice((1, 1, 1, 2, 4)))
        write(chance, changed, file)
        return told
    if way < 0.8:
        data, told = damaged(chance, file.read_bytes())
        file.write_bytes(data)
        return told
    if way < 0.95:
        text, told = bomb(chance, file.read_text(encoding="utf-8"))
        file.write_text(text, encoding="utf-8")
        return told
    return misplaced(chance, file)


def recipe(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """A hostile recipe, for `check`; now and then a stage's field of a strange value."""
    surroundings(chance, folder, stock)
    document = good_recipe(chance)
    file = folder / "recipe.yaml"
    if chance.random() < 0.25:
        from edgecompress.stage import stage_class, stage_modules

        stage = chance.choice(sorted(stage_modules()))
        field = chance.choice(sorted(stage_class(stage).model_fields) or ["x"])
        value = chance.choice((strange(chance), {"each": [strange(chance), strange(chance)]}))
        document["stages"] = [{stage: {field: value}}, "export", "quantize.dynamic"]
        write(chance, document, file)
        told = f"{stage}.{field}"
    elif chance.random() < 0.1:
        values = list(range(chance.choice((30, 400))))
        fields = {name: {"each": values} for name in
                  ("epochs", "batch_size", "learning_rate", "warmup", "temperature")}  # fmt: skip
        document["stages"] = [{"distil": fields}] * chance.choice((1, 3))
        write(chance, document, file)
        told = "each times each"
    else:
        told = _file(chance, file, document)
    names = ("recipe.yaml", "calibration.yaml", "data.", "train.", "dev.", "test.", "/proc/")
    return Case(("check", "recipe.yaml"), names, told)


def matrix(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """A hostile matrix, for `check` and `run --cells`."""
    surroundings(chance, folder, stock)
    document = good_matrix(chance)
    file = folder / "recipe.yaml"
    if chance.random() < 0.4:
        document["matrix"], told = mutated(chance, document["matrix"], chance.choice((1, 2)))
        write(chance, document, file)
    elif chance.random() < 0.15:
        document["matrix"] = {f"axis{n}": list(range(200)) for n in range(chance.choice((2, 6)))}
        write(chance, document, file)
        told = "many axes"
    else:
        told = _file(chance, file, document)
    only = [f"--only={chance.choice(('seed=7', 'x=1', 'seed', 'rate=é', '=,='))}"]
    arguments = chance.choice(
        (("check", "recipe.yaml"), ("run", "recipe.yaml", "-o", "out", "--cells", *only))
    )
    return Case(arguments, ("recipe.yaml", "calibration.yaml", "--only", "data."), told)


def fleet(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """A hostile fleet, for `targets list` and for the recipe that names it."""
    surroundings(chance, folder, stock)
    told = _file(chance, folder / "fleet.yaml", FLEET)
    if chance.random() < 0.6:
        names = ("fleet.yaml", "/dev/", "/proc/")
        return Case(("targets", "list", "--targets", "fleet.yaml"), names, told)
    document = good_recipe(chance) | {
        "fleet": "fleet.yaml",
        "targets": [chance.choice(("local", "here", "pi4", "a72", "pi5"))],
    }
    document["budget"] = {"size": {"max": "10MB"}}
    write(chance, document, folder / "recipe.yaml")
    return Case(("check", "recipe.yaml"), ("fleet.yaml", "recipe.yaml", "/dev/", "/proc/"), told)


def _setting(chance: random.Random) -> str:
    keys = ("seed", "name", "task", "data.root", "data.train", "data.format", "teacher.model",
            "teacher.finetune.epochs", "teacher.new.layers", "model", "fleet", "targets",
            "targets[0]", "targets[9]", "stages", "stages.distil.epochs", "stages[0]",
            "stages[0].any[0][0]", "stages.quantize.static.calibration", "budget.size.max",
            "budget.size@local", "profile.inputs.file", "profile.inputs.sizes", "profile.threads",
            "matrix.seed", "matrix", "licences", "minimize", "threads", "x.y.z", "", ".", "[0]",
            "[", "a[b]", "stages[99999999999999999999]", "a" * 3000, ".".join("abc" * 400),
            "stages" + "[0]" * 600, "data.\udcff", "é")  # fmt: skip
    value = strange(chance)
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9).removesuffix("...\n")
    text = chance.choice((text.strip(), str(value)[:5000], "[", "{a: b", "&a [*a]", "!!set {a}",
                          "*x", "2024-13-45", "'", "{<<: 3}", "[" * 3000, "\t", "@", "\udcff",
                          "&a [1,1,1,1,1,1,1,1,1,1,1,1,1]"))  # fmt: skip
    return chance.choice((f"{chance.choice(keys)}={text}", f"{chance.choice(keys)}={text}",
                          chance.choice(keys), f"={text}", ""))  # fmt: skip


def settings(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """Hostile `--set` and `--set-recipe`, on recipes and on single commands."""
    surroundings(chance, folder, stock)
    given = [_setting(chance) for _ in range(chance.choice((1, 1, 2, 3)))]
    told = " ".join(given)[:120]
    if chance.random() < 0.6:
        document = chance.choice((good_recipe, good_recipe, good_matrix))(chance)
        write(chance, document, folder / "recipe.yaml")
        words = [word for one in given for word in ("--set", one)]
        names = ("recipe.yaml", "--set", "data.root", *typed_parts(given))
        return Case(("check", "recipe.yaml", *words), names, told)
    scheme = chance.choice(("dynamic", "static", "weights", "half", "smooth", "auto"))
    fields = ("per_channel", "reduce_range", "samples", "inputs", "calibration", "preprocessor",
              "exclude", "layers", "bits", "block_size", "activations", "x")  # fmt: skip
    model = str(stock.numbers)
    if chance.random() < 0.5:
        option, names = "--set-recipe", ("--set-recipe", "--set", "data", "stages")
    else:
        option, names = "--set", ("--set", scheme)
        given = [f"{chance.choice(fields)}={one.partition('=')[2]}" for one in given]
    words = [word for one in given for word in (option, one)]
    arguments = ("quantize", model, "--scheme", scheme, *words, "-o", "out")
    return Case(arguments, (*names, *typed_parts(given), "stages[0]", "numbers.onnx"), told)


def typed_parts(given: list[str]) -> list[str]:
    """Give keys and values that were typed, one of which a refusal may name."""
    halves = [half for one in given for half in one.partition("=")[::2]]
    return [part for half in halves for part in (half, half.partition("[")[0]) if len(part) > 1]


def calibration(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """A hostile calibration set, by the recipe that names it."""
    surroundings(chance, folder, stock)
    document = good_recipe(chance)
    document["stages"] = STAGES[1]
    write(chance, document, folder / "recipe.yaml")
    told = _file(chance, folder / "calibration.yaml", CALIBRATION)
    return Case(("check", "recipe.yaml"), ("calibration.yaml", "/dev/", "/proc/"), told)


def linked(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """A good recipe one of whose paths leads to what is no regular file."""
    surroundings(chance, folder, stock)
    document = good_recipe(chance)
    there = folder / "given.yaml"
    there.write_text("x", encoding="utf-8")
    told = spoilt(chance, there) if chance.random() < 0.2 else misplaced(chance, there)
    there = chance.choice(("given.yaml", "given.yaml", "given.yaml/below", "/dev/zero",
                           "/dev/stdin", "x" * 300, "x/" * 3000 + "y.yaml"))  # fmt: skip
    way = chance.choice(("fleet", "model", "calibration", "corpus", "inputs", "file", "root",
                         "train", "test", "teacher"))  # fmt: skip
    if way in ("fleet", "model"):
        document[way] = there
    elif way == "calibration":
        document["stages"] = ["export", {"quantize.static": {"calibration": there}}]
    elif way == "corpus":
        document["stages"] = [{"vocabulary.trim": {"corpus": [there], "keep": 90}}, "export"]
    elif way == "inputs":
        document["stages"] = ["export", {"quantize.static": {"inputs": there}}]
    elif way == "file":
        document["profile"] = {"inputs": {"file": there}}
    elif way == "teacher":
        document["teacher"] = {"model": there}
    elif way == "root":
        document["data"] = {**document["data"], "root": there}
    else:
        data = dict(document["data"], root=".")
        for split in ("train", "validation", "test"):
            named = data[split]
            data[split] = f"data/{named if isinstance(named, str) else named[0]}"
        document["data"] = data | {way: [there]}
    write(chance, document, folder / "recipe.yaml")
    names = ("recipe.yaml", "given.yaml", "/dev/", "/proc/", "x" * 30, "x/x/")
    return Case(("check", "recipe.yaml"), names, f"{way}: {told}")


GENERATORS = {
    "recipes": recipe,
    "matrices": matrix,
    "fleets": fleet,
    "sets": settings,
    "calibration": calibration,
    "paths": linked,
}
