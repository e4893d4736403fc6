"""A small language model in few bits, ours beside ONNX Runtime GenAI's int4 and llama.cpp's.

    python benchmarks/generation.py --model DIR --data DIR [--genai DIR] [--gguf FILE]

DIR of the data holds wikitext2's ``valid.txt`` and ``test.txt``. The model is exported in fp32 and
put into 8 (smoothed before, by GPTQ) and 4 bits; each is judged by its perplexity on the test, in
passages of 2,000 characters and windows of 512 tokens, with a paired bootstrap over passages. Then
every model reads a prompt of ``--prompt`` tokens and goes on for ``--new`` tokens, always taking
the likeliest, on one thread; models take turns, ``--rounds`` times in a drawn order, each in a
process of its own that stays, and none twice in a row: it would find its weights in the cache. All
is done ``--starts`` times, as where a process has its weights in memory moves its speed by several
per cent until it ends. PYTHON is that of an environment with ``onnxruntime-genai`` and
``llama-cpp-python``, as far as they can be had. GenAI's folder is made by its model builder from
the same checkpoint: ``python -m onnxruntime_genai.models.builder -i DIR -o OUT -p int4 -e cpu``, or
holds one of the files that are made here, in the place of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgecompress.data import data_config
from edgecompress.targets.accuracy import answers
from edgecompress.targets.local import Local
from edgecompress.targets.size import model_files
from edgecompress.tasks import task
from edgecompress.tasks.compare import paired_bootstrap_drop
from edgecompress.values import Candidate, OnnxModel

MB = 1e6
PASSAGE = 2000
FORMS = {
    "8 bits": ("smooth", "weights", "linear_bits=8 embedding_bits=8 method=gptq samples=12"),
    "4 bits, offsets": ("fp32", "weights", "linear_bits=4 offsets=true embedding_bits=8"),
    "4 bits, no offsets": ("fp32", "weights", "linear_bits=4 embedding_bits=4"),
    "4 bits, offsets, cache in int8": ("4-bits-offsets", "cache", "samples=12"),
    "4 bits, offsets, cache in fp16": ("4-bits-offsets", "cache", "bits=16"),
}
"""Of which folder, by which scheme with which fields."""
OURS = """
import json, sys, time
import numpy as np
from pathlib import Path
from edgecompress.generation.decoding import CachedDecoder
from edgecompress.models.runner import open_onnx
from edgecompress.values import OnnxModel
graph = open_onnx(OnnxModel(Path(sys.argv[1])), 1)
def go(ids, new):
    decoder = CachedDecoder(graph)
    start = time.perf_counter()
    token = int(decoder.step(ids).argmax())
    first = time.perf_counter()
    for _ in range(new - 1):
        token = int(decoder.step((token,)).argmax())
    return first - start, (new - 1) / (time.perf_counter() - first)
"""
GENAI = """
import json, sys, time
import onnxruntime_genai as og
model = og.Model(sys.argv[1])
def go(ids, new):
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(ids) + new, min_length=len(ids) + new, do_sample=False)
    generator = og.Generator(model, params)
    start = time.perf_counter()
    generator.append_tokens(ids)
    generator.generate_next_token()
    first = time.perf_counter()
    for _ in range(new - 1):
        generator.generate_next_token()
    return first - start, (new - 1) / (time.perf_counter() - first)
"""
LLAMA = """
import json, sys, time
import numpy as np
from llama_cpp import Llama
model = Llama(sys.argv[1], n_ctx=2048, n_threads=1, n_threads_batch=1, verbose=False)
def go(ids, new):
    model.reset()
    start = time.perf_counter()
    model.eval(ids)
    token = int(np.argmax(model.scores[len(ids) - 1]))
    first = time.perf_counter()
    for at in range(new - 1):
        model.eval([token])
        token = int(np.argmax(model.scores[len(ids) + at]))
    return first - start, (new - 1) / (time.perf_counter() - first)
"""
LOOP = """
import resource
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    given = go(asked["ids"], asked["new"])
    print(json.dumps([*given, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]), flush=True)
"""


class Player:
    """A model in a process of its own, asked again and again."""

    def __init__(self, python: str, script: str, model: Path) -> None:
        self.process = subprocess.Popen(
            [python, "-c", script + LOOP, str(model)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.read()

    def read(self) -> str:
        """Give the next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args!r} ended")
        return line

    def end(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def __call__(self, ids: list[int], new: int) -> tuple[float, float, float]:
        """Give seconds to the first token, tokens a second behind it, and the peak memory in KiB.

        The peak is of the whole process until then: of loading the model, too.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"ids": ids, "new": new}) + "\n")
        self.process.stdin.flush()
        first, rate, peak = json.loads(self.read())
        return first, rate, peak


def place(name: str) -> str:
    """Give the folder of a row."""
    return name.replace(" ", "-").replace(",", "")


def made(arguments: argparse.Namespace, folder: Path) -> dict[str, Candidate]:
    """Export the model, and put it into few bits."""
    store = ["--store", str(arguments.store)] if arguments.store else []
    base = [sys.executable, "-m", "edgecompress"]
    data = [
        *("--task", "text-generation", "--format", "text"),
        *("--train", str(arguments.data / "valid.txt")),
        *("--validation", str(arguments.data / "valid.txt")),
        *("--test", str(arguments.data / "test.txt")),
        *("--set-recipe", f"data.passage={PASSAGE}"),
    ]
    export = [*base, "export", arguments.model, "-o", folder / "fp32", *data, *store]
    subprocess.run(list(map(str, export)), check=True)
    smooth = [*base, "quantize", folder / "fp32", "--scheme", "smooth", "-o", folder / "smooth"]
    smooth += ["--set", "block=32", "--set", "tables=true", "--set", "samples=12"]
    subprocess.run(list(map(str, [*smooth, *data, *store])), check=True)
    found = {"fp32": Candidate.load(folder / "fp32")}
    for name, (source, scheme, fields) in FORMS.items():
        out = folder / place(name)
        more = arguments.set if scheme == "weights" else ()
        sets = [part for one in (*fields.split(), *more) for part in ("--set", one)]
        quantize = [*base, "quantize", folder / source, "--scheme", scheme, "-o", out]
        subprocess.run(list(map(str, [*quantize, *sets, *data, *store])), check=True)
        found[name] = Candidate.load(out)
    return found


def size(one: Candidate) -> int:
    """Give the bytes of a model's files."""
    assert isinstance(one.model, OnnxModel)
    return sum(file.stat().st_size for file in model_files(one.model))


def judge(rows: dict[str, Candidate], arguments: argparse.Namespace) -> None:
    """Ask all of them about the test, and print what is lost."""
    kind = task("text-generation")
    config = {"format": "text", "passage": PASSAGE, "root": arguments.data, "train": "valid.txt"}
    whole = data_config({**config, "test": "test.txt"}).read("test")
    wanted = arguments.passages or len(whole)
    examples = whole[:: max(1, len(whole) // wanted)][:wanted]
    said = {name: answers(one, examples, Local()) for name, one in rows.items()}
    print(f"\n{len(examples)} passages of wikitext2's test")
    print("| model | perplexity | more than fp32 (95 %) | MB |\n|---|--:|--:|--:|")
    first = kind.metrics[0]
    (base,) = [one.value for one in kind.score(said["fp32"], examples, ())[:1]]
    for name, one in rows.items():
        value = kind.score(said[name], examples, ())[0].value
        lost = paired_bootstrap_drop(first, said["fp32"], said[name], examples, 0)
        drop, low, high = (100 * number / base for number in lost)
        print(
            f"| {name} | {value:.3f} | {drop:+.2f} % ({low:+.2f} to {high:+.2f}) | "
            f"{size(one) / MB:.1f} |",
            flush=True,
        )


def started(rows: dict[str, Candidate], arguments: argparse.Namespace) -> dict[str, Player]:
    """Start a process for each model."""
    players: dict[str, Player] = {}
    for name, one in rows.items():
        assert isinstance(one.model, OnnxModel)
        players[name] = Player(sys.executable, OURS, one.model.path)
    for folder in arguments.genai:
        players[f"ONNX Runtime GenAI, {folder.name}"] = Player(arguments.peers, GENAI, folder)
    if arguments.gguf:
        players["llama.cpp"] = Player(arguments.peers, LLAMA, arguments.gguf)
    return players


def race(rows: dict[str, Candidate], arguments: argparse.Namespace) -> None:
    """Time all of them in turns, and print it."""
    from edgecompress.tasks import load_processor

    processor: Any = load_processor("text-generation", next(iter(rows.values())).preprocessor)
    text = (arguments.data / "test.txt").read_text(encoding="utf-8")[:20000]
    ids = processor.encode_text([text])[0][: arguments.prompt].tolist()
    found: dict[str, list[tuple[float, float, float]]] = {}
    drawn, order = random.Random(0), [""]
    for _ in range(arguments.starts):
        players = started(rows, arguments)
        for number in range(arguments.rounds + 1):
            last, order = order[-1], list(players)
            drawn.shuffle(order)
            if order[0] == last:
                order.append(order.pop(0))
            for name in order:
                timed = players[name](ids, arguments.new)
                if number:  # the first round warms up
                    found.setdefault(name, []).append(timed)
        for player in players.values():
            player.end()
    print(f"\none thread, {len(ids)} tokens read, {arguments.new} new")
    print(f"{arguments.starts} starts of {arguments.rounds} rounds")
    print("| model | ms to the first token | tokens/s (least to most) | peak memory, MB |")
    print("|---|--:|--:|--:|")
    for name in players:
        each = found[name]
        rates = [rate for _, rate, _ in each]
        print(
            f"| {name} | {1e3 * statistics.median(first for first, _, _ in each):.0f} | "
            f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f}) | "
            f"{1024 / MB * statistics.median(peak for _, _, peak in each):.0f} |"
        )


def main() -> None:
    """Make, judge, time, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a folder of Hugging Face's form")
    parser.add_argument("--data", type=Path, required=True, help="folder of wikitext2's files")
    parser.add_argument("--made", type=Path, help="where the models are, or are written to")
    parser.add_argument("--set", action="append", default=[], help="a field of quantize.weights")
    parser.add_argument(
        "--passages", type=int, help="only so many of the test, evenly spread over it"
    )
    parser.add_argument("--rows", nargs="+", choices=FORMS, help="beside fp32; without it all")
    parser.add_argument("--only", choices=("judge", "race"), help="one of both parts")
    parser.add_argument(
        "--genai", type=Path, action="append", default=[], help="a folder of GenAI's form; several"
    )
    parser.add_argument("--gguf", type=Path, help="a file of llama.cpp's form")
    parser.add_argument("--peers", default=sys.executable, help="the Python of their environment")
    parser.add_argument("--prompt", type=int, default=128, help="tokens that are read")
    parser.add_argument("--new", type=int, default=64, help="tokens that are generated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.made or Path(name)
        names = ("fp32", *FORMS)
        there = all((folder / place(one) / "candidate.json").is_file() for one in names)
        rows = (
            {one: Candidate.load(folder / place(one)) for one in names}
            if there
            else made(arguments, folder)
        )
        rows = {one: rows[one] for one in ("fp32", *(arguments.rows or FORMS))}
        if arguments.only != "race":
            judge(rows, arguments)
        if arguments.only != "judge":
            race(rows, arguments)


if __name__ == "__main__":
    main()
