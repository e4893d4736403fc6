"""Note the digests of what the writer makes of a set of graphs, without running one of them.

    python benchmarks/writer_digests.py -o after.json --compare before.json

As `rewrites.py`, for the planning and writing of quantized graphs alone: some 700 plans in seconds,
with made-up ranges. Run it on two commits with the same libraries.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from foreign import ROOT
from rewrites import compare, onnx_models


def ranges(names: list[str]) -> dict[str, tuple[float, float]]:
    """Make ranges up, the same for the same names."""
    return {
        name: (
            -(zlib.crc32(name.encode()) % 700 + 50) / 100,
            (zlib.crc32(name[::-1].encode()) % 900 + 50) / 100,
        )
        for name in names
    }


def noted(file: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Write a graph by every kind of plan; give digests of file and reasons, or the refusal."""
    from edgecompress.errors import EdgeCompressError
    from edgecompress.models.storage import read_model, write_model
    from edgecompress.quantization.graphs.layers import find_layers
    from edgecompress.quantization.plan.checks import linear_inputs
    from edgecompress.quantization.plan.scheme import Scheme
    from edgecompress.quantization.write.writer import rewrite

    stored = read_model(file)
    names = linear_inputs(stored)
    layers = find_layers(stored)
    nodes = [layer.node for layer in layers]
    weights = [layer.weights[0] for layer in layers if not layer.refused]
    found = ranges(names)
    held = dict.fromkeys(weights[1:2], "held")
    schemes = {
        "dynamic": Scheme(),
        "dynamic, 4 bits": Scheme(embedding_bits=4),
        "dynamic, no tables": Scheme(embeddings=False),
        "dynamic, uint8": Scheme(unsigned_weights=True, symmetric_weights=False, per_channel=False),
        "dynamic, 7 bits": Scheme(reduce_range=True),
        "dynamic, apart": Scheme(share=False, per_channel=False),
        "dynamic, some": Scheme(exclude=frozenset(nodes[::2]), held=held),
        "static": Scheme(ranges=found),
        "static, int8": Scheme(ranges=found, signed_activations=True),
        "static, 4 bits": Scheme(
            ranges=found, embedding_bits=4, per_channel=False, embedding_block=16
        ),
        "static, some": Scheme(ranges=found, exclude=frozenset(nodes[1::3]), held=held),
        "static, unfit": Scheme(ranges=found, unfit=dict.fromkeys(names[1:2], "unfit")),
        "static, integers": Scheme(ranges=found, as_integers=frozenset(weights[::2])),
        "blocks": Scheme(linears="blocks", embedding_bits=4),
        "blocks, 8 bits": Scheme(linears="blocks", linear_bits=8, linear_block=16, search=False),
        "tables, 4 bits": Scheme(linears="off", embedding_bits=4),
        "tables": Scheme(linears="off"),
    }
    for name, scheme in schemes.items():
        target = folder / "written.onnx"
        try:
            written, reasons = rewrite(read_model(file), scheme)
            write_model(written, target)
        except EdgeCompressError as error:
            yield name, f"exit: {error}"
        else:
            said = hashlib.sha256(json.dumps(reasons, sort_keys=True).encode()).hexdigest()[:8]
            yield name, f"{hashlib.sha256(target.read_bytes()).hexdigest()} {said}"


def main() -> None:
    """Make, write, note, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="folder with ONNX files instead of made ones")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--compare", type=Path, help="the notes of another commit")
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    for module in ("onnx", "onnxruntime"):
        importlib.import_module(module)
    after: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        for number, (title, file) in enumerate(onnx_models(Path(name), asked.models)):
            for scheme, digest in noted(file, Path(name)):
                after[f"{number} {title} | {scheme}"] = digest
    asked.output.write_text(json.dumps(after, indent=1, sort_keys=True) + "\n")
    refused = sum(found.startswith("exit") for found in after.values())
    print(f"{len(after)} plans, {refused} refused")
    if asked.compare:
        compare(json.loads(asked.compare.read_text()), after)


if __name__ == "__main__":
    main()
