"""What answering costs on a device: packages, first answer, memory; beside Optimum's pipeline.

``python benchmarks/runtime.py --sizes`` lists the packages of the base install for aarch64, from
wheels only, with their sizes on disk and whether predicting imports them at all.

``python benchmarks/runtime.py --model DIR`` makes a fresh environment with the base install and
nothing else, and takes turns: a process of it imports edgecompress and answers one text, a process
of an environment that has Optimum (this one, or ``--optimum PYTHON``) does the same with its
``ORTModelForTokenClassification`` and the pipeline of transformers, on the same ONNX file. DIR is a
bundle, or a checkpoint that one is made of.

``--texts FILE`` (one a line) adds how many texts a second batches of several sizes answer, and
whether they change answers.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import click

from edgecompress.bundle import load_manifest, write_bundle
from edgecompress.intervals import interval_ranks
from edgecompress.surgery.onnx_export import optimum_is_installed
from edgecompress.targets.local import machine_lock
from edgecompress.values import Candidate

ROOT = Path(__file__).parent.parent
MB = 1e6
LIMIT_MB, LIMIT_S, LIMIT_RESIDENT_MB = 160, 1.0, 150
TEXT = "Muhammadu Buhari ya je Abuja."
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64")
BATCHES = (1, 2, 4, 8, 16, 32)
OURS = """
import time; start = time.perf_counter()
import json, sys
import edgecompress
said = edgecompress.load(sys.argv[1]).predict(sys.argv[2])
took = time.perf_counter() - start
found = [[entity.label, entity.text, round(entity.score, 4)] for entity in said.entities]
"""
OPTIMUM = """
import time; start = time.perf_counter()
import json, sys
from optimum.onnxruntime import ORTModelForTokenClassification
from transformers import AutoTokenizer, pipeline
model = ORTModelForTokenClassification.from_pretrained(sys.argv[1])
answer = pipeline("token-classification", model=model, aggregation_strategy="simple",
    tokenizer=AutoTokenizer.from_pretrained(sys.argv[1]))
said = answer(sys.argv[2])
took = time.perf_counter() - start
found = [[each["entity_group"], each["word"], round(float(each["score"]), 4)] for each in said]
"""
REPORT = """
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
packages = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({"first_s": took, "peak_mb": int(peak.split()[1]) * 1024 / 1e6, "found": found,
    "packages": sorted(packages), "cpu_s": time.process_time()}))
"""


def built_wheel(folder: Path) -> Path:
    """Build this project's wheel."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(folder), "."]
    subprocess.run(command, check=True, cwd=ROOT)
    (wheel,) = folder.glob("edgecompress-*.whl")
    return wheel


def closure(found: Mapping[str, Distribution], name: str) -> Iterator[str]:
    """Give the names of all that `name` requires, each once, itself first."""
    from packaging.requirements import Requirement

    waiting, seen = [name], set()
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        yield name
        for text in found[name].requires or ():
            wanted = Requirement(text)
            marker = wanted.marker
            if marker is None or marker.evaluate({"extra": "", "platform_machine": "aarch64"}):
                waiting.append(plain(wanted.name))


def plain(name: str) -> str:
    """Give a distribution's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def sizes(folder: Path, python: str) -> bool:
    """Install for aarch64 into a folder, and list what lies there."""
    wheel = built_wheel(folder)
    place = folder / "aarch64"
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "install", "-qq", "--target", str(place), *platforms]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    subprocess.run([*command, "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True)
    found = {plain(each.metadata["Name"]): each for each in distributions(path=[str(place)])}
    names = list(closure(found, "edgecompress"))
    used = imported_packages()
    click.echo("\n| package | version | wheel, MB | with bytecode, MB | imported to predict |")
    click.echo("|---|---|--:|--:|:-:|")
    rows = []
    for name in names:
        files = [Path(str(file.locate())) for file in found[name].files or ()]
        there = [file for file in files if file.is_file()]
        bare = sum(file.stat().st_size for file in there if file.suffix != ".pyc")
        whole = sum(file.stat().st_size for file in there)
        tops = {file.relative_to(place).parts[0].partition(".")[0] for file in there}
        rows.append((name, found[name].version, bare / MB, whole / MB, bool(tops & used)))
    rows.sort(key=lambda row: -row[3])
    for name, version, bare_mb, whole_mb, needed in rows:
        mark = "yes" if needed else "no"
        click.echo(f"| {name} | {version} | {bare_mb:.1f} | {whole_mb:.1f} | {mark} |")
    total = sum(row[3] for row in rows)
    click.echo(f"| **all** | | {sum(row[2] for row in rows):.1f} | **{total:.1f}** | |")
    lean = [row for row in rows if row[4]]
    click.echo(
        f"| **those imported** | | {sum(row[2] for row in lean):.1f} "
        f"| **{sum(row[3] for row in lean):.1f}** | |\n"
    )
    unpacked = sum(row[2] for row in rows)
    large = sum(row[2] for row in rows if row[0] in ("numpy", "onnxruntime"))
    click.echo(
        f"{unpacked:.0f} MB as the wheels unpack (at most {LIMIT_MB}), of which onnxruntime and "
        f"numpy {large:.0f}; {total:.0f} MB once all bytecode is compiled"
    )
    return unpacked < LIMIT_MB


def imported_packages() -> set[str]:
    """Top-level modules that the command line loads to answer a text, from a tiny bundle."""
    sys.path.insert(0, str(ROOT / "tests"))
    write_candidate = importlib.import_module("lookup_models").write_candidate
    with tempfile.TemporaryDirectory() as name:
        candidate = write_candidate(Path(name) / "made", "token-classification")
        write_bundle(Path(name) / "bundle", candidate, {"name": "tiny"}, {})
        code = (
            "import sys; from edgecompress.cli.main import main\n"
            f"try: main(['predict', {str(Path(name) / 'bundle')!r}, 'Abuja'])\n"
            "except SystemExit: print(*{name.partition('.')[0] for name in sys.modules})\n"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return set(done.stdout.decode().splitlines()[-1].split())


def fresh_environment(folder: Path) -> Path:
    """Make an environment with the base install; its Python."""
    wheel = built_wheel(folder)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*command, str(wheel)], check=True)
    return python


def bundle_of(model: Path, folder: Path) -> Path:
    """Give `model` if it is a bundle, else one made of it: exported, in dynamic int8."""
    if (model / "manifest.json").is_file():
        return model
    base = [sys.executable, "-m", "edgecompress"]
    store = ["--store", str(folder / "store")]
    task = ["--task", "token-classification"]
    exported, small = folder / "exported", folder / "small"
    subprocess.run([*base, "export", str(model), "-o", str(exported), *task, *store], check=True)
    quantize = [*base, "quantize", str(exported), "-o", str(small)]
    subprocess.run([*quantize, *task, *store], check=True)
    write_bundle(folder / "bundle", Candidate.load(small), {"name": model.name}, {})
    return folder / "bundle"


def optimum_folder(bundle: Path, folder: Path) -> Path:
    """Lay a bundle's files out as Optimum wants them, with a config that has the labels."""
    manifest = load_manifest(bundle)
    place = folder / "optimum"
    shutil.copytree(bundle / str(manifest.preprocessor), place)
    for file in bundle.glob("model.onnx*"):
        shutil.copyfile(file, place / file.name)
    labels = {str(index): label for index, label in enumerate(manifest.labels)}
    config = {
        "model_type": "bert",
        "architectures": ["BertForTokenClassification"],
        "id2label": labels,
        "label2id": {label: int(index) for index, label in labels.items()},
    }
    (place / "config.json").write_text(json.dumps(config))
    return place


def run_once(command: Sequence[str]) -> dict[str, Any]:
    """Run a process; what it reports, with the whole process' time."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, env=environment)
    took = time.perf_counter() - start
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**report, "process_s": took}


def first_answers(model: Path, folder: Path, repeats: int, text: str, optimum: Path | None) -> bool:
    """Let both take turns, in a fresh process each; without Optimum ours runs alone."""
    bundle = bundle_of(model, folder)
    python = fresh_environment(folder)
    ways = {
        "edgecompress, base install": [str(python), "-I", "-c", OURS + REPORT, str(bundle), text],
    }
    if optimum is None:
        click.echo("Optimum is not installed here: give --optimum, or it is left out")
    else:
        place = str(optimum_folder(bundle, folder))
        command = [str(optimum), "-c", OPTIMUM + REPORT, place, text]
        ways["Optimum's ORTModel, pipeline"] = command
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for repeat in range(-2, repeats):  # the first two fill the page cache and write bytecode
        for name in (*ways,) if repeat % 2 else reversed((*ways,)):
            with machine_lock():  # nothing else of ours is timed meanwhile
                found = run_once(ways[name])
            if repeat >= 0:
                runs[name].append(found)
    file = bundle / load_manifest(bundle).model
    click.echo(f"\n{file.stat().st_size / MB:.1f} MB of model; {repeats} fresh processes each\n")
    click.echo(
        "| | import and first answer, s | whole process, s | its processor time, s "
        "| peak memory, MB |"
    )
    click.echo("|---|--:|--:|--:|--:|")
    for name, each in runs.items():
        cells = [middle(each, key) for key in ("first_s", "process_s", "cpu_s", "peak_mb")]
        click.echo(f"| {name} | {' | '.join(cells)} |")
    for name, each in runs.items():
        click.echo(f"\n{name} says {json.dumps(each[0]['found'], ensure_ascii=False)}")
    ours = runs["edgecompress, base install"]
    slowest = statistics.median(each["first_s"] for each in ours)
    largest = max(each["peak_mb"] for each in ours)
    return bool(slowest < LIMIT_S and largest < LIMIT_RESIDENT_MB)


def middle(runs: Sequence[Mapping[str, Any]], key: str) -> str:
    """Give a median with its 95 % interval by order statistics, where there are enough runs."""
    values = sorted(each[key] for each in runs)
    ranks = interval_ranks(len(values), 0.5)
    digits = 0 if key.endswith("_mb") else 2
    interval = ""
    if ranks is not None:
        interval = f" ({values[ranks[0]]:.{digits}f}–{values[ranks[1]]:.{digits}f})"
    return f"{statistics.median(values):.{digits}f}{interval}"


def batches(bundle: Path, file: Path, repeats: int) -> None:
    """Time one process that answers all texts, with batches of each size in turn."""
    import edgecompress

    texts = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    open_ = {size: edgecompress.load(bundle, threads=1, batch=size) for size in BATCHES}
    with machine_lock():
        said = {size: predictor.predict(texts) for size, predictor in open_.items()}
    times: dict[int, list[float]] = {size: [] for size in BATCHES}
    for repeat in range(repeats):
        with machine_lock():  # for a whole round: ratios are taken within one
            for size in BATCHES if repeat % 2 == 0 else reversed(BATCHES):
                start = time.perf_counter()
                open_[size].predict(texts)
                times[size].append(time.perf_counter() - start)
    auto = edgecompress.load(bundle, threads=1).batch
    click.echo(f"\n{len(texts)} texts, 1 thread, {repeats} rounds; auto is {auto}\n")
    click.echo("| batch | texts/s | against one by one, × | texts with other labels than alone |")
    click.echo("|--:|--:|--:|--:|")
    for size in BATCHES:
        pairs = zip(said[1], said[size], strict=True)
        other = sum((one.label, one.tags) != (many.label, many.tags) for one, many in pairs)
        rate = len(texts) / statistics.median(times[size])
        gains = [{"x": alone / many} for alone, many in zip(times[1], times[size], strict=True)]
        click.echo(f"| {size} | {rate:.0f} | {middle(gains, 'x')} | {other} |")


@click.command()
@click.option("--sizes", "list_sizes", is_flag=True, help="List the base install for aarch64.")
@click.option("--python", default="3.11", show_default=True, help="Its Python.")
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A bundle, or a token classification checkpoint.",
)
@click.option("--repeats", default=15, show_default=True, help="Processes, at least 6.")
@click.option("--text", default=TEXT, show_default=True, help="What is asked.")
@click.option(
    "--optimum",
    type=click.Path(path_type=Path, exists=True),
    help="Python of an environment that has Optimum, where this one has not.",
)
@click.option(
    "--texts",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Texts for batches, one a line.",
)
def main(
    list_sizes: bool,
    python: str,
    model: Path | None,
    repeats: int,
    text: str,
    optimum: Path | None,
    texts: Path | None,
) -> None:
    """Measure what answering costs; exit with 1 where a bound is not kept."""
    if not (list_sizes or model):
        raise click.UsageError("give --sizes, or --model with a bundle")
    held = True
    if optimum is None and optimum_is_installed():
        optimum = Path(sys.executable)
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as name:
        folder = Path(name)
        if list_sizes:
            (folder / "sizes").mkdir()
            held &= sizes(folder / "sizes", python)
        if model and texts:
            batches(bundle_of(model.resolve(), folder), texts, repeats)
        elif model:
            # Not resolved: a link is the environment.
            python_of = optimum.absolute() if optimum else None
            held &= first_answers(model.resolve(), folder, repeats, text, python_of)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
