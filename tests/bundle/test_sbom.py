"""The bill of materials: valid CycloneDX, complete, and the same bytes each time."""

from __future__ import annotations

import json
import subprocess
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st

from edgecompress.bundle.manifest import Manifest
from edgecompress.bundle.sbom import render_sbom
from edgecompress.provenance import installed, required
from edgecompress.values import file_digest

DIGESTS = {
    "model.onnx": "ab" * 32,
    "model.onnx.data": "cd" * 32,
    "preprocessor/vocab.txt": "0" * 64,
}
PACKAGES = {"edgecompress": "0.1.0", "numpy": "2.4.6", "onnxruntime": "1.31.1"}


def described(**fields: object) -> Manifest:
    fields = {"name": "tiny", "task": "text-classification", "labels": ("a", "b")} | fields
    return Manifest(model="model.onnx", preprocessor="preprocessor", **fields)  # type: ignore[arg-type]


def valid(text: str) -> bool:
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_a_bundles_bill_is_valid_and_names_every_file(make_bundle, tagger):
    bundle = make_bundle(tagger, licences={"model": "Apache-2.0", "packages": {"numpy": "MIT"}})
    text = (bundle / "sbom.cdx.json").read_text()
    assert valid(text)
    document = json.loads(text)
    assert "serialNumber" not in document and "timestamp" not in document["metadata"]
    parts = {part["bom-ref"]: part for part in document["components"]}
    assert parts["model"]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    hashes = {
        file["name"]: file["hashes"][0]["content"]
        for part in ("model", "preprocessor")
        for file in parts[part]["components"]
    }
    assert {name: file_digest(bundle / name) for name in hashes} == hashes
    assert "model.onnx" in hashes and "preprocessor/tokenizer.json" in hashes


def test_packages_carry_versions_licences_and_what_they_require():
    found = render_sbom(
        described(licences={"packages": {"numpy": "BSD-3-Clause AND 0BSD"}}), DIGESTS, PACKAGES
    )
    document = json.loads(found)
    by_name = {part["name"]: part for part in document["components"]}
    assert by_name["numpy"]["licenses"] == [{"expression": "BSD-3-Clause AND 0BSD"}]
    assert by_name["numpy"]["purl"] == "pkg:pypi/numpy@2.4.6"
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in document["dependencies"]}
    assert "pkg:pypi/numpy@2.4.6" in edges["pkg:pypi/onnxruntime@1.31.1"]
    assert edges["bundle"] == ["model", "pkg:pypi/edgecompress@0.1.0", "preprocessor"]


def test_the_bill_is_the_same_in_another_process():
    code = (
        "from edgecompress.bundle.manifest import Manifest\n"
        "from edgecompress.bundle.sbom import render_sbom\n"
        "import test_sbom as here\n"
        "print(render_sbom(here.described(), here.DIGESTS, here.PACKAGES), end='')\n"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(__file__).rpartition("/")[0]},
        ).stdout
        for seed in ("1", "2")
    }
    assert texts == {render_sbom(described(), DIGESTS, PACKAGES)}


@given(
    name=st.text(min_size=1).filter(str.isprintable),
    licence=st.text(max_size=20),
)
def test_any_name_and_licence_give_a_valid_bill(name: str, licence: str) -> None:
    manifest = described(name=name, licences={"model": licence, "packages": {"numpy": licence}})
    assert valid(render_sbom(manifest, DIGESTS, PACKAGES))


def test_what_a_bundle_needs_to_run_is_what_the_base_install_requires():
    base, whole = installed(), installed("build")
    assert {"edgecompress", "onnxruntime", "numpy", "tokenizers", "click"} <= set(base)
    assert "torch" not in base and "torch" in whole
    assert set(base) < set(whole)
    assert {"click", "numpy", "onnxruntime", "tokenizers"} <= set(required("edgecompress"))
