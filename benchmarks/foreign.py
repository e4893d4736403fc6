"""Try every scheme on other people's ONNX files, or on random ones of the kinds that they write.

    python benchmarks/foreign.py --models DIR -o table.md
    python benchmarks/foreign.py --generated 8

For each file and scheme the command runs as a person would run it. What is noted: the exit code,
the sentence that it ended with, the size against fp32 (external data included), and the error of
the answers on samples that were not calibrated with: root mean square difference over the standard
deviation in fp32 (where that hardly varies over half of its root mean square), of the output that
differs most. Of `--models` the same for ONNX Runtime's own quantizer on the same calibration
samples. A traceback is a fault, and so is a copy. Rows that stand in the .json beside the table are
kept: what was ended goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Feed = dict[str, np.ndarray]
ROOT = Path(__file__).parents[1]
SCHEMES = ("dynamic", "static", "weights", "half")
PRELOADED = (
    *("torch", "onnx", "onnxruntime", "onnxruntime.transformers.optimizer", "rich.table"),
    *("onnx.version_converter", "edgecompress.engine.single", "edgecompress.engine.pipeline"),
    *(f"edgecompress.stages.quantize.{name}" for name in SCHEMES),
    *("edgecompress.quantization.graphs.fusion", "edgecompress.quantization.prove.proof"),
    *("edgecompress.quantization.write.writer", "edgecompress.quantization.search.switched"),
)
"""Imported once, before the forks."""
COMMANDS = (*SCHEMES, "profile", "sensitivity")
CALIBRATED, COMPARED = 8, 4
OPSET_PER_CHANNEL, UPGRADED_OPSET = 13, 17
"""QuantizeLinear has an axis from the first on; the second is what edgecompress upgrades to."""
LIMIT_S = 600
WRONG = 0.5
"""An answer that is off by half its spread is no answer; the command must not exit with 0."""


def run(command: list[str], limit_s: int = LIMIT_S) -> tuple[int, str]:
    """Run edgecompress in a fork of this process; give its exit code and all that it said."""
    from edgecompress.cli.main import main as edgecompress

    with tempfile.TemporaryFile() as told:
        child = os.fork()
        if not child:
            signal.alarm(limit_s)
            for stream in (1, 2):
                os.dup2(told.fileno(), stream)
            sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
            code = 1
            try:
                edgecompress(command)
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
            except BaseException:  # noqa: BLE001 - what a person would see
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        status = os.waitpid(child, 0)[1]
        told.seek(0)
        said = told.read().decode(errors="replace")
    ended = os.waitstatus_to_exitcode(status)
    return (124, "timeout") if ended == -signal.SIGALRM else (ended, said)


def session(file: Path) -> Any:
    """Open a file in ONNX Runtime, without a word on the terminal."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def samples(file: Path, kept: Path | None) -> list[Feed]:
    """Make inputs on which the file runs, or read those that were kept."""
    if kept is not None and kept.is_file():
        with np.load(kept) as found:
            names = {key.partition("/")[2] for key in found.files}
            count = len({key.partition("/")[0] for key in found.files})
            return [{name: found[f"{n}/{name}"] for name in names} for n in range(count)]
    try:
        from edgecompress.models.synthetic import made_feeds
        from edgecompress.values import OnnxModel

        made = made_feeds(OnnxModel(file), [(1, 8)] * (CALIBRATED + COMPARED))
    except Exception:  # noqa: BLE001 - the commands say what is wrong
        return []
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"{n}/{name}": a for n, feed in enumerate(made) for name, a in feed.items()}
        np.savez(kept, **arrays)  # type: ignore[arg-type]
    return made


def answers(file: Path, feeds: list[Feed]) -> tuple[list[str], list[list[np.ndarray]]]:
    """Give a file's outputs of numbers, by sample."""
    opened = session(file)
    names = [each.name for each in opened.get_outputs() if each.type.startswith("tensor(")]
    return names, [[np.asarray(x) for x in opened.run(names, feed)] for feed in feeds]


def error(file: Path, made: Path, feeds: list[Feed]) -> float:
    """Give the largest error of an output, as the commands measure it; NaN: not finite."""
    from edgecompress.quantization.prove.answers import compare_outputs

    names, expected = answers(file, feeds)
    found = compare_outputs(names, expected, answers(made, feeds)[1])
    of_floats = [one for one, x in zip(found, expected[0], strict=True) if x.dtype.kind == "f"]
    if any(one.fault and one.error is None for one in of_floats):
        return float("nan")
    return max((one.error for one in of_floats if one.error is not None), default=0.0)


def size(file: Path) -> int:
    """Bytes of a file, its external data included."""
    from edgecompress.onnx_files import onnx_model_files

    return sum(each.stat().st_size for each in onnx_model_files(file))


def one(
    file: Path, folder: Path, data: Path | None, feeds: Any, command: str, limit_s: int
) -> dict[str, Any]:
    """Run one command on one file."""
    out = folder / f"{command}.onnx"
    start = time.monotonic()
    store = ["--store", str(folder / "store")]
    if command == "profile":
        code, said = run(["profile", str(file), "--min-duration", "50ms", *store], limit_s)
    elif command == "sensitivity":
        code, said = run(
            ["sensitivity", str(file), "--samples", "2", "--parts", "layers", *store], limit_s
        )
    else:
        given = ["--data", str(data)] if data and command == "static" else []
        asked = ["quantize", str(file), "--scheme", command, "-o", str(out), *given, *store]
        code, said = run(asked, limit_s)
    told = [line for line in said.splitlines() if line.startswith("edgecompress: ")]
    found: dict[str, Any] = {"exit": code, "said": told[-1][14:] if told else ""}
    found["traceback"] = "Traceback" in said or (code not in (0, 1, 2))
    found["seconds"] = round(time.monotonic() - start, 1)
    found["noise"] = "[E:onnxruntime" in said
    if out.is_file():
        found["ratio"] = size(file) / size(out)
        found["copy"] = out.read_bytes() == file.read_bytes() or found["ratio"] < 1.0
        if feeds:
            try:
                found["error"] = error(file, out, feeds[CALIBRATED:])
            except Exception as failure:  # noqa: BLE001 - whatever the runtime raises is noted
                found["error"], found["said"] = float("nan"), str(failure)[:200]
    return found


def theirs(file: Path, folder: Path, feeds: list[Feed]) -> dict[str, Any]:
    """Quantize with ONNX Runtime's own quantizer on the same samples.

    As its manual asks: pre-processed first, and upgraded to opset 17 where it is older than 13.
    Where the pre-processing fails, the file as it is.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds: Iterator[Any] = iter(feeds[:CALIBRATED])

        def get_next(self) -> Any:
            return next(self.feeds, None)

    source = file
    with contextlib.suppress(Exception):
        model = onnx.load(file)
        if any(o.domain == "" and o.version < OPSET_PER_CHANNEL for o in model.opset_import):
            model = onnx.version_converter.convert_version(model, UPGRADED_OPSET)
            model.ir_version = max(model.ir_version, 8)
            onnx.save(model, folder / "upgraded.onnx")
            source = folder / "upgraded.onnx"
        prepared = folder / "prepared.onnx"
        quant_pre_process(str(source), str(prepared))
        session(prepared)
        source = prepared
    found: dict[str, Any] = {}
    for name in ("dynamic", "static"):
        out = folder / f"ort-{name}.onnx"
        try:
            if name == "dynamic":
                quantize_dynamic(str(source), str(out), per_channel=True)
            else:
                quantize_static(str(source), str(out), Reader(), per_channel=True)
            found[name] = {
                "ratio": size(file) / size(out),
                "error": error(file, out, feeds[CALIBRATED:]),
            }
        except Exception as failure:  # noqa: BLE001 - whatever it raises is what it said
            found[name] = {"said": f"{type(failure).__name__}: {failure}"[:120]}
    return found


def verdict(found: dict[str, Any]) -> str:
    """Say in a word how a command did."""
    if found["exit"] == 124:
        return "timeout"
    if found["traceback"]:
        return "traceback"
    if found["exit"]:
        return "refused" if found["said"] else "silent"
    if found.get("copy"):
        return "copy"
    if not found.get("error", 0.0) < WRONG:
        return "wrong"
    return "noise" if found["noise"] else "works"


def generated(count: int, folder: Path) -> Iterator[tuple[str, Path, Path | None]]:
    """Write `count` graphs of each kind, with calibration data where the kind has some."""
    sys.path.insert(0, str(ROOT / "tests"))
    strange = importlib.import_module("strange_graphs")
    for kind in strange.GRAPHS:
        for seed in range(count):
            place = folder / f"{kind.replace(' ', '-')}-{seed}"
            place.mkdir()
            file = strange.strange_graph(kind, place / "model.onnx", seed)
            data = None
            if kind == "states":
                hidden = session(file).get_inputs()[1].shape[2]
                data = strange.state_samples(place / "data.npz", seed, hidden)
            yield kind, file, data


def calibration(feeds: Any, folder: Path) -> Path | None:
    """Write samples as files of arrays, one each."""
    if not feeds:
        return None
    place = folder / "samples"
    place.mkdir()
    for number, feed in enumerate(feeds[:CALIBRATED]):
        np.savez(place / f"{number}.npz", **{name: array[None] for name, array in feed.items()})
    return place


def cell(found: dict[str, Any]) -> str:
    """One cell of the table."""
    word = verdict(found)
    if "ratio" in found:
        return f"{found['ratio']:.2f}×, {found['error']:.3f}" + (
            "" if word == "works" else f" ({word})"
        )
    return "works" if word == "works" else f"{word}: {found['said'][:90]}"


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="folder with ONNX files, at any depth")
    parser.add_argument("--generated", type=int, default=0, help="graphs of each kind")
    parser.add_argument("--only", default="", help="a part of the kind's or file's name")
    parser.add_argument("--commands", default=",".join(COMMANDS), help="those to try")
    parser.add_argument("--samples", type=Path, help="folder in which samples are kept")
    parser.add_argument("--most-mb", type=float, default=100)
    parser.add_argument("--limit-s", type=int, default=LIMIT_S, help="of one command, in seconds")
    parser.add_argument("-o", "--output", type=Path, help="Markdown table; beside it a .json")
    asked = parser.parse_args()
    commands = asked.commands.split(",")
    for module in PRELOADED:
        importlib.import_module(module)
    logging.disable(logging.WARNING)  # ONNX Runtime's quantizer advises at each call
    kept_rows = asked.output and asked.output.with_suffix(".json")
    rows: dict[str, dict[str, Any]] = (
        json.loads(kept_rows.read_text()) if kept_rows and kept_rows.is_file() else {}
    )
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        files: Iterator[tuple[str, Path, Path | None]] = generated(asked.generated, place)
        if asked.models:
            listed = sorted(asked.models.absolute().rglob("*.onnx"))
            small = [f for f in listed if f.stat().st_size < asked.most_mb * 1e6]
            small.sort(key=lambda file: file.stat().st_size)
            files = ((str(f.relative_to(asked.models.absolute())), f, None) for f in small)
        for number, (kind, file, data) in enumerate(files):
            if asked.only not in kind:
                continue
            title = kind if asked.models else f"{kind} {number}"
            if title in rows:
                continue
            folder = place / f"out-{number}"
            folder.mkdir()
            kept = asked.samples and asked.samples / f"{number:04d}.npz"
            feeds = samples(file, kept)
            data = data or calibration(feeds, folder)
            found = {c: one(file, folder, data, feeds, c, asked.limit_s) for c in commands}
            rows[title] = found
            if asked.models:
                with contextlib.chdir(folder):  # its shape inference leaves files where it fails
                    found["theirs"] = theirs(file.absolute(), folder, feeds)
            shutil.rmtree(folder)
            told = ", ".join(f"{c}: {verdict(found[c])}" for c in commands)
            print(f"{title}: {told}", flush=True)
            if asked.output:
                asked.output.with_suffix(".json").write_text(json.dumps(rows, indent=1))
                asked.output.write_text(table(rows))
    counts: dict[str, Counter[str]] = {}
    for title, found in rows.items():
        kind = "all" if asked.models else title.rpartition(" ")[0]
        words = (verdict(found[c]) for c in commands if c in found)
        counts.setdefault(kind, Counter()).update(words)
    total: Counter[str] = sum(counts.values(), Counter())
    lines = [f"| {k} | {', '.join(f'{n} {w}' for w, n in c.items())} |" for k, c in counts.items()]
    print("\n".join(lines), f"\n{dict(total)}")


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Write the Markdown table: size and error of each scheme, beside ONNX Runtime's."""
    heads = ["file", *COMMANDS, "ONNX Runtime dynamic", "ONNX Runtime static"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for title, found in rows.items():
        other = found.get("theirs", {})
        cells = [cell(found[c]) if c in found else "–" for c in COMMANDS]
        for name in ("dynamic", "static"):
            its = other.get(name, {})
            said = (
                f"{its['ratio']:.2f}×, {its['error']:.3f}"
                if "error" in its
                else its.get("said", "–")
            )
            cells.append(said[:90])
        lines.append("| " + " | ".join([title, *(c.replace("|", "/") for c in cells)]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
