"""Peak memory of the ONNX quantization stages beside ONNX Runtime's own calls and one inference.

Run ``python benchmarks/quantize_memory.py``: it makes a BERT-shaped model of random weights (by
default of 110 million parameters), then runs each case in a fresh process that imports no torch and
reads that process's peak resident memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import click
from bare import bare_context

from edgecompress.texts import text_example
from edgecompress.values import Candidate, Example

CASES = {
    "import": "edgecompress, onnx and onnxruntime imported, nothing done",
    "inference": "one fp32 inference, ONNX Runtime, batch 1",
    "dynamic": "quantize.dynamic",
    "static": "quantize.static",
    "ort_dynamic": "onnxruntime.quantization.quantize_dynamic",
    "ort_static": "onnxruntime.quantization.quantize_static",
}
SAMPLES = 8
WORDS = 1000
MB = 1_000_000


def make_model(
    path: Path, layers: int, hidden: int, heads: int, vocabulary: int, positions: int
) -> str:
    """Export a random BERT for token classification; in a process of its own, as it needs torch.

    Give the exporter's name: Optimum's where it is installed.
    """
    code = f"""
import torch
from pathlib import Path
from transformers import BertConfig, BertForTokenClassification
from edgecompress.quantization.graphs.exporting import export_graph
from edgecompress.surgery.onnx_export import choose_exporter
torch.manual_seed(0)
config = BertConfig(vocab_size={vocabulary}, hidden_size={hidden}, num_hidden_layers={layers},
    num_attention_heads={heads}, intermediate_size={4 * hidden}, num_labels=9,
    max_position_embeddings={positions})
module = BertForTokenClassification._from_config(config, attn_implementation="eager").eval()
exporter = choose_exporter(module, "token-classification")
export_graph(module, "token-classification", Path({str(path)!r}), exporter)
print(exporter)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1]


def run_case(case: str, model: Path, folder: Path, length: int) -> None:
    """Do one case in this process; the parent reads the peak."""
    from edgecompress.models.fitting import row_of
    from edgecompress.models.graph import signature
    from edgecompress.models.session import input_specs, open_session
    from edgecompress.models.sizes import SizePlan
    from edgecompress.stage import Transform, stage_class
    from edgecompress.values import OnnxModel

    onnx_model = OnnxModel(model)
    ranges = {"input_ids": (0, 1000)}

    if case == "inference":
        session = open_session(onnx_model)
        session.run(None, row_of(input_specs(session), ranges, SizePlan(1, length)))
    elif case in {"dynamic", "static"}:
        labels = tuple(f"L{index}" for index in range(9))
        candidate = Candidate(onnx_model, make_preprocessor(folder), "text-classification", labels)
        stage = cast(Transform, stage_class(f"quantize.{case}")())
        stage.apply(candidate, bare_context(folder, made_up_texts(length)))
    elif case == "ort_dynamic":
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(
            model,
            folder / "q.onnx",
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
        )
    elif case == "ort_static":
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

        specs = signature(onnx_model)
        feeds = (row_of(specs, ranges, SizePlan(1, length), s) for s in range(SAMPLES))

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def get_next(self) -> Any:
                return next(feeds, None)

        quantize_static(
            model,
            folder / "q.onnx",
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
        )
    if "torch" in sys.modules:
        raise SystemExit(f"{case} imported torch")


def make_preprocessor(folder: Path) -> Path:
    """Write a tokenizer of the words ``w0`` … ``w999``, one piece each, between [CLS] and [SEP]."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{index}" for index in range(WORDS))]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    directory = folder / "preprocessor"
    directory.mkdir()
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {"model_max_length": 512, "pad_token": "[PAD]"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


def made_up_texts(length: int) -> list[Example]:
    """Give texts of `length` tokens, special ones included."""
    import numpy as np

    words = np.random.default_rng(0).integers(0, WORDS, (SAMPLES, length - 2))
    texts = [" ".join(f"w{number}" for number in row) for row in words]
    return [text_example(text=text, label="L0") for text in texts]


def peak_bytes() -> int:
    """Peak resident memory of this process since it began (Linux).

    `getrusage` will not do: a forked process starts with the peak of its parent.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def peak_of(case: str, model: Path, length: int) -> tuple[int, float]:
    """Peak resident bytes and seconds of a fresh process that does `case`."""
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as folder:
        command = [sys.executable, __file__, "--case", case, "--model", str(model)]
        command += ["--folder", folder, "--length", str(length)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise click.ClickException(f"{case} failed:\n{done.stderr[-2000:]}")
    report = json.loads(done.stdout.splitlines()[-1])
    return report["peak_bytes"], report["seconds"]


@click.command()
@click.option("--layers", default=12, show_default=True)
@click.option("--hidden", default=768, show_default=True)
@click.option("--heads", default=12, show_default=True)
@click.option("--vocabulary", default=30522, show_default=True)
@click.option("--positions", default=512, show_default=True)
@click.option("--length", default=128, show_default=True, help="Tokens of the inference.")
@click.option("--model", type=click.Path(path_type=Path), help="Measure this ONNX file instead.")
@click.option("--case", type=click.Choice(list(CASES)), hidden=True)
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
def main(
    layers: int,
    hidden: int,
    heads: int,
    vocabulary: int,
    positions: int,
    length: int,
    model: Path | None,
    case: str | None,
    folder: Path | None,
) -> None:
    """Print a Markdown table of peak memory."""
    if case and model and folder:
        import time

        start = time.perf_counter()
        run_case(case, model, folder, length)
        seconds = time.perf_counter() - start
        click.echo(json.dumps({"peak_bytes": peak_bytes(), "seconds": seconds}))
        return
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as name:
        by = ""
        if model is None:
            model = Path(name) / "made" / "model.onnx"
            exporter = make_model(model, layers, hidden, heads, vocabulary, positions)
            by = f", exported by {exporter}"
        size = model.stat().st_size
        million = size / 4 / MB
        click.echo(f"fp32 model of {size / MB:.0f} MB, {million:.0f} million parameters{by}\n")
        click.echo("| fresh process | peak memory | of one fp32 inference | seconds |")
        click.echo("|---|---:|---:|---:|")
        found = {each: peak_of(each, model, length) for each in CASES}
        for each, (peak, seconds) in found.items():
            share = peak / found["inference"][0]
            click.echo(f"| {CASES[each]} | {peak / MB:.0f} MB | {share:.2f}× | {seconds:.1f} |")


if __name__ == "__main__":
    main()
