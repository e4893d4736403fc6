"""The commands that `file_kills` kills: `run` and each that writes, on very small inputs."""

from __future__ import annotations

import itertools
import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from file_kills import Command, whole_bundle, whole_report, whole_tree
from foreign_models import transformer
from helpers import labelled_texts, tiny_teacher
from lookup_models import WORD_LANGUAGES, write_candidate

from edgecompress.bundle import write_bundle
from edgecompress.bundle.packing import pack_bundle
from edgecompress.engine.run import run
from edgecompress.engine.run_directory import export_candidate
from edgecompress.targets.emulated import find_cpu
from edgecompress.targets.emulated import prepare as prepare_cpu
from edgecompress.targets.emulated.setup import FOLDER_VARIABLE, MARKER, _digest, _places

RECIPE = """\
name: small
task: text-classification
model: {model}
data: {{format: tsv, root: {data}, train: [train.tsv], validation: [dev.tsv], test: [test.tsv]}}
seed: 3
stages: [quantize.dynamic]
profile:
  {{min_duration_ms: 1, warmup_ms: 1, max_warmup_ms: 1, min_count: 2, cold_starts: 0,
   attempts: 1}}
budget: {{accuracy: {{min: 0.0}}}}
minimize: size
"""
DATA = ("--format", "tsv")


def commands(inputs: Path, *, torch: bool = True) -> list[Command]:
    """Write the inputs below a folder and give the commands that work on them."""
    inputs.mkdir(parents=True)
    found = [
        *_on_onnx(inputs, torch=torch),
        *_on_bundles(inputs),
        *_runs(inputs),
        *_targets(inputs),
    ]
    return found + (_on_torch(inputs) if torch else [])


def _texts(folder: Path, lines: Callable[[int, int], list[str]]) -> Path:
    folder.mkdir()
    for number, (name, count) in enumerate({"train": 24, "dev": 20, "test": 20}.items()):
        text = "\n".join(["text\tlabel", *lines(count, number)]) + "\n"
        (folder / f"{name}.tsv").write_text(text)
    return folder


def _labelled(count: int, seed: int) -> list[str]:
    return [f"{one.inputs['text']}\t{one.target}" for one in labelled_texts(count, seed=seed)]


def _languages(count: int, seed: int) -> list[str]:
    """Texts of which the model of `lookup_models` knows every word, and so every answer."""
    words = sorted(WORD_LANGUAGES.items())
    return [
        f"{word} {'x' * (1 + seed)}{number}\t{language}"
        for number, (word, language) in zip(range(count), itertools.cycle(words), strict=False)
    ]


def _on_onnx(inputs: Path, *, torch: bool) -> list[Command]:
    tagger = write_candidate(inputs / "tagger", "token-classification")
    tagger.save(inputs / "tagger")
    # Its weights are large enough to be halved; writing it takes PyTorch.
    plain = str(transformer(inputs / "transformer.onnx")) if torch else ""
    whole, file = str(inputs / "tagger"), str(inputs / "tagger" / "model" / "model.onnx")

    def single(name: str, *arguments: str, output: str = "out") -> Command:
        return Command(
            name,
            lambda folder: [*arguments, "-o", str(folder / output)],
            (output,),
            whole_tree,
            single=True,
        )

    return [
        single("quantize", "quantize", whole),
        single("quantize to a file", "quantize", file, output="out.onnx"),
        single("quantize weights", "quantize", whole, "--scheme", "weights"),
        single("quantize half", "quantize", plain, "--scheme", "half", output="new/deep/out"),
        Command(
            "sensitivity",
            lambda folder: ["sensitivity", file, "--samples", "2", "-o", str(folder / "out")],
            ("out/sensitivity.json", "out/sensitivity.html"),
            whole_report,
        ),
    ]


def _on_bundles(inputs: Path) -> list[Command]:
    classifier = write_candidate(inputs / "classifier", "text-classification", external=True)
    bundle = inputs / "bundle"
    write_bundle(bundle, classifier, {"name": "one", "seed": 1}, {"edgecompress": "0.1.0"})
    older = inputs / "older"
    write_bundle(older, classifier, {"name": "older", "seed": 1}, {"edgecompress": "0.1.0"})
    archive = pack_bundle(bundle, inputs / "bundle.tar.zst")
    key = _key(inputs / "key.pem")

    def lay(name: str, source: Path) -> Callable[[Path], None]:
        def copy(folder: Path) -> None:
            if source.is_dir():
                shutil.copytree(source, folder / name)
            else:
                shutil.copyfile(source, folder / name)

        return copy

    unpack = Command(
        "bundle unpack over another",
        lambda folder: ["bundle", "unpack", str(archive), "-o", str(folder / "out")],
        ("out",),
        whole_bundle,
        lay("out", older),
    )
    unpack.expected["before out"] = whole_bundle(older)
    pack = Command(
        "bundle pack over another",
        lambda folder: ["bundle", "pack", str(bundle), "-o", str(folder / "out.tar.zst")],
        ("out.tar.zst",),
        whole_tree,
        lay("out.tar.zst", pack_bundle(older, inputs / "older.tar.zst")),
    )
    pack.expected["before out.tar.zst"] = whole_tree(inputs / "older.tar.zst")
    sign = Command(
        "bundle sign",
        lambda folder: ["bundle", "sign", str(folder / "out"), "--key", str(key)],
        ("out/core.sha256.sig",),
        whole_tree,
        lay("out", bundle),
    )
    return [
        Command(
            "bundle pack",
            lambda folder: ["bundle", "pack", str(bundle), "-o", str(folder / "new.tar.zst")],
            ("new.tar.zst",),
            whole_tree,
        ),
        pack,
        Command(
            "bundle unpack",
            lambda folder: ["bundle", "unpack", str(archive), "-o", str(folder / "deep" / "out")],
            ("deep/out",),
            whole_bundle,
        ),
        unpack,
        sign,
        Command(
            "image --context-only",
            lambda folder: ["image", str(bundle), "--context-only", str(folder / "out")],
            ("out",),
            whole_tree,
        ),
    ]


def _runs(inputs: Path) -> list[Command]:
    data = _texts(inputs / "languages.data", _languages)
    model = write_candidate(inputs / "languages", "text-classification")
    place = inputs / "model"
    export_candidate(model, place)
    recipe = inputs / "small.yaml"
    recipe.write_text(RECIPE.format(model=place, data=data))

    def arguments(folder: Path) -> list[str]:
        return ["run", str(recipe), "-o", str(folder / "out")]

    cold = Command("run", arguments, ("out/bundle", "out/results.json", "out/report.html"), _of_run)
    again = Command(
        "run from the store",
        arguments,
        ("out/bundle", "out/results.json", "out/report.html", "out/candidates"),
        _of_run,
        store=inputs / "store",
    )
    several = inputs / "several.yaml"
    several.write_text(recipe.read_text().replace("seed: 3", "matrix: {seed: [1, 2]}"))
    cells = (f"out/{cell}/{name}" for cell in (1, 2) for name in ("bundle", "results.json"))
    matrix = Command(
        "run with a matrix",
        lambda folder: ["run", str(several), "-o", str(folder / "out")],
        (*cells, "out/matrix.json", "out/matrix.html"),
        _of_run,
    )
    return [cold, again, matrix, *_again(inputs, recipe, place)]


def _again(inputs: Path, recipe: Path, model: Path) -> list[Command]:
    """Give `reproduce` of a bundle, with a store that is thrown away, and with one that stays."""
    run(recipe, inputs / "ran", store=inputs / "store of ran")
    places = ("--data-root", str(inputs / "languages.data"), "--model", str(model))

    def arguments(folder: Path) -> list[str]:
        return ["reproduce", str(inputs / "ran" / "bundle"), *places, "-o", str(folder / "out")]

    return [
        Command("reproduce", arguments, ("out",), whole_bundle),
        Command(
            "reproduce into a store",
            lambda folder: [*arguments(folder), "--store", str(folder / "made")],
            ("out",),
            whole_bundle,
        ),
    ]


def _targets(inputs: Path) -> list[Command]:
    """Give `targets prepare` and `targets clean` for a processor that needs no download here."""
    if platform.machine() != "x86_64" or shutil.which("qemu-x86_64") is None:
        return []
    url = "emulated://x86-avx2"
    _, *made = _places(find_cpu(url))
    names = tuple(f"emulation/{place.name}" for place in made)
    filled = inputs / "emulation"

    def prepare(name: str, lay: Callable[[Path], None] | None, first: str) -> Command:
        return Command(
            name,
            lambda folder: ["targets", "prepare", url],
            names,
            _whole_folder,
            lay,
            first=(lambda folder: ["targets", first, url]),
        )

    def keep(folder: Path) -> None:
        """Have what a preparation makes, from the first try on."""
        if not filled.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(FOLDER_VARIABLE, str(filled))
                prepare_cpu(url)
        shutil.copytree(filled, folder / "emulation", symlinks=True)

    return [
        prepare("targets prepare emulated", None, "prepare"),
        prepare("targets clean emulated", keep, "clean"),
    ]


def _whole_folder(output: Path) -> object:
    """Describe a part of an emulated processor, after a check of all of it."""
    marker = json.loads((output / MARKER).read_text())
    assert marker.pop("digest") == _digest.__wrapped__(output), f"{output} is not whole"
    return marker


def _of_run(output: Path) -> object:
    if output.name == "bundle":
        return whole_bundle(output)
    if output.name == "candidates":
        return sorted(path.relative_to(output).as_posix() for path in output.rglob("*"))
    return whole_report(output)


def _key(file: Path) -> Path:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


def _on_torch(inputs: Path) -> list[Command]:
    examples = labelled_texts(24)
    teacher = tiny_teacher(inputs / "teacher", examples, "text-classification", layers=2)
    teacher.save(inputs / "teacher")
    data = _texts(inputs / "texts", _labelled)
    whole = str(inputs / "teacher")
    files = [
        *DATA,
        *("--train", str(data / "train.tsv"), "--validation", str(data / "dev.tsv")),
        *("--test", str(data / "test.tsv")),
    ]

    def single(name: str, *arguments: str) -> Command:
        return Command(
            name,
            lambda folder: [name.split()[0], whole, *arguments, "-o", str(folder / "out")],
            ("out",),
            whole_tree,
            single=True,
            torch=True,
        )

    short = ("--set", "epochs=2", "--set", "batch_size=8")
    return [
        single("export"),
        single("prune", *files, "--set", "heads=0.5", "--set", "ffn=0.5"),
        single("finetune", *files, *short),
        single("distil", "--teacher", whole, *files, *short),
        single("trim", *files, "--keep", "80"),
        single("factorize", *files, "--set", "embedding=16", "--set", "weighted=false"),
    ]
