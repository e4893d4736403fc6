"""Entropy calibration of an XLM-R of 111 million weights: memory and time beside ONNX Runtime's.

Run ``python benchmarks/xlmr_entropy.py``. Each case is a fresh process without torch: one fp32
inference, bare forward passes over the samples, `quantize.static` with entropy over all of them
(calibration, ranges, and the model written and proven), and ONNX Runtime's entropy calibrator over
as many as it survives within ``--cap``, halved from ``--samples`` until one run ends. All samples
have 128 tokens, because that calibrator refuses uneven ones. It exits with 1 when `quantize.static`
takes more than twice the memory of the inference or three times as long as the forward passes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from bare import bare_context
from quantize_memory import peak_bytes
from xlmr_model import PIECES

from edgecompress.values import Candidate, OnnxModel

LENGTH = 128
MOST_MEMORY, MOST_TIME = 2.0, 3.0
LEAST_SAMPLES = 8
GB = 1e9
TITLES = {
    "inference": "one fp32 inference, ONNX Runtime, batch 1",
    "forward": "bare forward passes",
    "static": "quantize.static, entropy",
    "onnxruntime": "ONNX Runtime's entropy calibrator alone",
}


def export(folder: Path) -> Path:
    """Write the model as ONNX; in a process of its own, as it needs torch."""
    target = folder / "export" / "model" / "model.onnx"
    if not target.is_file():
        code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from xlmr_int8 import Workshop
workshop = Workshop(Path({str(folder)!r}), 1)
workshop.apply("export", {{}}, workshop.teacher(), "export")
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if done.returncode:
            raise click.ClickException(f"the export failed:\n{done.stderr[-2000:]}")
    return target


def feeds(file: Path, samples: int) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    """Give samples one at a time: int64, shape (1, `LENGTH`) each."""
    with np.load(file) as stored:
        ids = stored["input_ids"][:samples]
    for row in ids:
        yield {"input_ids": row[None], "attention_mask": np.ones((1, LENGTH), np.int64)}


def run_case(case: str, model: Path, folder: Path, samples: int, cap: float) -> None:
    """Do one case in this process; the parent reads peak and seconds."""
    from edgecompress.models.session import open_session

    file = folder / "samples.npz"
    if case in {"inference", "forward"}:
        session = open_session(OnnxModel(model))
        for feed in feeds(file, 1 if case == "inference" else samples):
            session.run(None, feed)
    elif case == "static":
        from edgecompress.stages.quantize.static import Static

        stage = Static(method="entropy", inputs=str(file), samples=samples)
        stage.apply(Candidate(OnnxModel(model)), bare_context(folder / "made"))
    elif case == "onnxruntime":
        resource.setrlimit(resource.RLIMIT_AS, (int(cap * GB), int(cap * GB)))
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        given = feeds(file, samples)

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def get_next(self) -> Any:
                return next(given, None)

        calibrator = create_calibrator(
            model,
            ["MatMul"],
            augmented_model_path=str(folder / "augmented.onnx"),
            calibrate_method=CalibrationMethod.Entropy,
        )
        calibrator.collect_data(Reader())
        calibrator.compute_data()
    if "torch" in sys.modules:
        raise SystemExit(f"{case} imported torch")


def measure(case: str, model: Path, file: Path, samples: int, cap: float) -> dict[str, float] | str:
    """Peak resident bytes and seconds of a fresh process, or the last line of what it died of."""
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as name:
        (Path(name) / "samples.npz").symlink_to(file)
        command = [sys.executable, __file__, "--case", case, "--model", str(model)]
        command += ["--folder", name, "--samples", str(samples), "--cap", str(cap)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1][:200] if lines else f"ended by signal {-done.returncode}"
    return cast(dict[str, float], json.loads(done.stdout.splitlines()[-1]))


def must(found: dict[str, float] | str, case: str) -> dict[str, float]:
    """Give the readings of a case that has to end.

    Raises
    ------
    ClickException
        When it did not.
    """
    if isinstance(found, str):
        raise click.ClickException(f"{case} failed: {found}")
    return found


def show(
    case: str, samples: int, readings: dict[str, float], found: dict[str, dict[str, float]]
) -> None:
    """Print a row."""
    peak, seconds = readings["peak_bytes"], readings["seconds"]
    memory = peak / found["inference"]["peak_bytes"]
    passes = found["forward"]["seconds"]
    each = "" if case == "inference" else f"{1e3 * seconds / samples:.0f} ms"
    share = "" if case in {"inference", "onnxruntime"} else f"{seconds / passes:.2f}×"
    click.echo(
        f"| {TITLES[case]} | {samples} | {peak / 1e6:.0f} MB | {memory:.2f}× | {seconds:.1f} | "
        f"{share} | {each} |"
    )


def show_peer(
    model: Path, file: Path, samples: int, cap: float, found: dict[str, dict[str, float]]
) -> None:
    """Run ONNX Runtime's calibrator over fewer and fewer samples until it ends."""
    while samples >= LEAST_SAMPLES:
        readings = measure("onnxruntime", model, file, samples, cap)
        if not isinstance(readings, str):
            show("onnxruntime", samples, readings, found)
            return
        click.echo(f"| {TITLES['onnxruntime']} | {samples} | fails within {cap:g} GB | | | | |")
        click.echo(readings, err=True)
        samples //= 2


@click.command()
@click.option("--samples", default=512, show_default=True)
@click.option("--cap", default=12.0, show_default=True, help="GB that ONNX Runtime's may take.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the model here.")
@click.option("--peer/--no-peer", default=True, show_default=True, help="Run ONNX Runtime's, too.")
@click.option("--case", hidden=True)
@click.option("--model", type=click.Path(path_type=Path), hidden=True)
def main(
    samples: int, cap: float, folder: Path | None, peer: bool, case: str | None, model: Path | None
) -> None:
    """Print a Markdown table of peak memory and seconds."""
    if case and model and folder:
        start = time.perf_counter()
        run_case(case, model, folder, samples, cap)
        seconds = time.perf_counter() - start
        click.echo(json.dumps({"peak_bytes": peak_bytes(), "seconds": seconds}))
        return
    with tempfile.TemporaryDirectory(prefix="edgecompress-entropy-") as name:
        place = folder or Path(name)
        model = export(place)
        file = Path(name) / "samples.npz"
        ids = np.random.default_rng(0).integers(4, PIECES - 1, (samples, LENGTH))
        np.savez(file, input_ids=ids, attention_mask=np.ones_like(ids))
        click.echo(f"fp32 model of {model.stat().st_size / 1e6:.0f} MB, {LENGTH} tokens a sample\n")
        heads = (
            "samples",
            "peak memory",
            "of one inference",
            "seconds",
            "of the passes",
            "a sample",
        )
        click.echo("| fresh process | " + " | ".join(heads) + " |\n|---|" + "--:|" * len(heads))
        found = {
            each: must(measure(each, model, file, samples, cap), each)
            for each in ("inference", "forward", "static")
        }
        for each, readings in found.items():
            show(each, 1 if each == "inference" else samples, readings, found)
        if peer:
            show_peer(model, file, samples, cap, found)
    memory, seconds = (found["static"][key] for key in ("peak_bytes", "seconds"))
    light = memory <= MOST_MEMORY * found["inference"]["peak_bytes"]
    quick = seconds <= MOST_TIME * found["forward"]["seconds"]
    sys.exit(0 if light and quick else 1)


if __name__ == "__main__":
    main()
