"""Quantize and rewrite a set of models by every scheme, and note the digests of what was written.

    python benchmarks/rewrites.py -o after.json --compare before.json

Run it on two commits with the same libraries on the same machine: what a change of the code's shape
may not change is then the same digest, or the same refusal, in each line. The models are made from
seeds (encoders of four families, pruned and not, exported; graphs as other tools write them; odd
ones) and, with ``--models DIR``, read from a folder.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from foreign import ROOT, run, samples

ONNX_SCHEMES = (
    "dynamic", "dynamic embedding_bits=4", "dynamic preset=portable", "dynamic embeddings=false",
    "dynamic weight=uint8 symmetric=false per_channel=false", "dynamic reduce_range=true",
    "static", "static method=average", "static method=mse", "static method=percentile",
    "static method=entropy", "static embedding_bits=4 per_channel=false", "static preset=portable",
    "static activation=int8", "smooth", "smooth multiply=true alpha=0.5",
    "weights", "weights method=nearest linear_bits=8", "weights method=gptq",
    "weights linears=false embedding_bits=8", "half", "half dtype=bf16",
)  # fmt: skip
TORCH_SCHEMES = (
    "inc_dynamic", "inc_dynamic embedding_bits=4", "inc_static samples=8",
    "inc_static samples=8 method=minmax smooth=0.5",
)  # fmt: skip
FAMILIES = ("Bert", "Roberta", "XLMRoberta", "Electra")
DATA_SCHEMES = frozenset({"static", "smooth", "weights method=gptq"})


def digests(folder: Path) -> str:
    """SHA-256 over the names and bytes of a model's files."""
    found = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{file.relative_to(folder)} ".encode())
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def quantized(model: Path, scheme: str, folder: Path, more: list[str], said_of: list[Path]) -> str:
    """Quantize by the command line; give a digest, or the refusal without paths."""
    name, *fields = scheme.split()
    out = folder / re.sub(r"\W+", "-", scheme)
    sets = [part for field in fields for part in ("--set", field)]
    command = ["quantize", str(model), "--scheme", name, "-o", str(out), *sets, *more]
    code, said = run([*command, "--store", str(folder / "store")])
    if code == 0:
        return digests(out / "model" if (out / "model").is_dir() else out)
    told = [line for line in said.splitlines() if line.startswith("edgecompress: ")]
    last = told[-1] if told else said.strip()[-200:]
    for place in said_of:
        last = last.replace(str(place), "…")
    return f"exit {code}: {last}"


def onnx_models(folder: Path, given: Path | None) -> Iterator[tuple[str, Path]]:
    """Write the graphs, or list those of a folder."""
    if given is not None:
        for file in sorted(given.rglob("*.onnx")):
            yield str(file.relative_to(given)), file
        return
    foreign = importlib.import_module("foreign_models")
    for name in ("cnn", "lstm", "transformer", "several"):
        (folder / name).mkdir()
        yield name, getattr(foreign, name)(folder / name / "model.onnx")
    strange = importlib.import_module("strange_graphs")
    for kind in strange.GRAPHS:
        place = folder / kind.replace(" ", "-")
        place.mkdir()
        yield kind, strange.strange_graph(kind, place / "model.onnx", 1)
    odd = importlib.import_module("odd_graphs")
    for kind in odd.KINDS:
        if kind != "external":
            for case in odd.cases(kind, 1, folder / f"odd-{kind}", 1):
                yield f"odd {kind}", case.model


def encoders(folder: Path) -> Iterator[tuple[str, Path]]:
    """Write small encoders of four families, whole and pruned, as candidates."""
    small = importlib.import_module("small_encoders")
    for family in FAMILIES:
        for uneven in (False, True):
            place = folder / f"{family}-{uneven}"
            task = "text-classification" if family == "Roberta" else "token-classification"
            small.write_encoder(place, family, task, uneven=uneven).save(place)
            yield f"{family}{' pruned' if uneven else ''}", place


def texts(folder: Path, task: str) -> list[str]:
    """Write training texts for a task, as the options that name them."""
    helpers = importlib.import_module("helpers")
    options = []
    for seed, split in enumerate(("train", "validation", "test"), start=5):
        lines = [] if task == "token-classification" else ["text\tlabel"]
        for example in helpers.tagged_examples(24, seed):
            words = example.inputs["words"]
            if task == "token-classification":
                pairs = zip(words, example.target, strict=True)
                lines += [*(f"{word} {tag}" for word, tag in pairs), ""]
            else:
                lines.append(" ".join(words) + "\tplace")
        file = folder / f"{task}-{split}.txt"
        file.write_text("\n".join(lines) + "\n")
        options += [f"--{split}", str(file)]
    shape = "conll" if task == "token-classification" else "tsv"
    return ["--task", task, "--format", shape, *options]


def main() -> None:
    """Make, quantize, note, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="folder with ONNX files instead of made ones")
    parser.add_argument("--only", default="", help="a part of a model's name")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--compare", type=Path, help="the notes of another commit")
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    for module in ("torch", "transformers", "onnx", "onnxruntime", "edgecompress.engine.single"):
        importlib.import_module(module)
    noted: dict[str, str] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)

        def note(title: str, scheme: str, found: str) -> None:
            noted[f"{title} | {scheme}"] = found
            print(f"{title} | {scheme}: {found[:100]}", flush=True)

        if asked.models is None:
            for title, folder in encoders(place):
                if asked.only not in title:
                    continue
                task = json.loads((folder / "candidate.json").read_text())["task"]
                data = texts(place, task)
                exported = place / f"{folder.name}-onnx"
                run(["export", str(folder), "-o", str(exported), "--store", str(place / "store")])
                note(title, "export", digests(exported / "model"))
                for scheme in ONNX_SCHEMES:
                    more = data if scheme.startswith(tuple(DATA_SCHEMES)) else []
                    out = place / f"{folder.name}-out"
                    note(title, scheme, quantized(exported, scheme, out, more, [place]))
                for scheme in TORCH_SCHEMES:
                    more = data if "static" in scheme else []
                    out = place / f"{folder.name}-out"
                    note(title, scheme, quantized(folder, scheme, out, more, [place]))
        for number, (title, file) in enumerate(onnx_models(place, asked.models)):
            if asked.only not in title:
                continue
            out = place / f"out-{number}"
            out.mkdir()
            feeds: Any = samples(file, None)
            given: list[str] = []
            if feeds:
                (out / "data").mkdir()
                for count, feed in enumerate(feeds[:8]):
                    arrays = {key: np.asarray(value)[None] for key, value in feed.items()}
                    np.savez(out / "data" / f"{count}.npz", **arrays)  # type: ignore[arg-type]
                given = ["--data", str(out / "data")]
            for scheme in ONNX_SCHEMES:
                more = given if scheme.startswith(tuple(DATA_SCHEMES)) else []
                note(title, scheme, quantized(file, scheme, out, more, [place, file.parent]))
    asked.output.write_text(json.dumps(noted, indent=1, sort_keys=True) + "\n")
    written = sum(not found.startswith("exit") for found in noted.values())
    print(f"{len(noted)} rewrites in {time.monotonic() - began:.0f} s: {written} written")
    if asked.compare:
        compare(json.loads(asked.compare.read_text()), noted)


def compare(before: dict[str, str], after: dict[str, str]) -> None:
    """Say which lines differ."""
    both = before.keys() & after.keys()
    unlike = sorted(key for key in both if before[key] != after[key])
    for key in unlike:
        print(f"differs: {key}\n  before {before[key]}\n  after  {after[key]}")
    only = len(before.keys() ^ after.keys())
    print(f"{len(both) - len(unlike)} of {len(both)} the same; {only} on one side only")
    sys.exit(bool(unlike))


if __name__ == "__main__":
    main()
