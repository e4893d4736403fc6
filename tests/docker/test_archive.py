"""`edgecompress image --output`: its answers to a wrong use, and the list. No engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import small_images as small
from click.testing import CliRunner, Result
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from edgecompress.cli.image import image as command
from edgecompress.errors import ImageError
from edgecompress.images.sbom import Package, render_image_sbom
from edgecompress.values import Candidate

MakeBundle = Callable[..., Path]


@pytest.fixture
def bundle(tagger: Candidate, make_bundle: MakeBundle) -> Path:
    return make_bundle(tagger, report_html="<p>")


def image(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_list_is_valid_and_names_what_is_there(bundle: Path) -> None:
    packages = [
        Package("numpy", "2.4.6", "BSD-3-Clause", "a" * 64), Package("a-b", "1+x", "", "b" * 64),
    ]  # fmt: skip
    base = {
        "os-release": small.RELEASE["usr/lib/os-release"],
        "status": small.STATUS.format("arm64").encode(),
        "statuspython3": b"Package: python3-x\nArchitecture: all\nVersion: 3\n",
        "patchlevel.h": b'#define PY_VERSION      "3.11.9"\n',
        "site-packages/pip-24.dist-info/METADATA": b"Name: Pip\nVersion: 24\n",
        "site-packages/bad.dist-info/METADATA": b"\xff",
    }
    text = render_image_sbom(bundle, packages, base)
    assert text == render_image_sbom(bundle, reversed(packages), dict(reversed(base.items())))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = {each["name"]: each for each in json.loads(text)["components"]}
    assert {name: each.get("version") for name, each in found.items() if name != "tiny"} == {
        "debian": "12", "libc6": "2.36-9+deb12u14", "media-types": "1:10.0.0~x", "python3-x": "3",
        "python": "3.11.9", "pip": "24", "numpy": "2.4.6", "a-b": "1+x",
    }  # fmt: skip
    assert found["tiny"]["hashes"][0]["content"] == small.digest(
        (bundle / "core.sha256").read_bytes()
    ).removeprefix("sha256:")
    address = PackageURL.from_string(found["media-types"]["purl"])
    assert (address.type, address.namespace, address.version) == ("deb", "debian", "1:10.0.0~x")
    assert address.qualifiers == {"arch": "all", "distro": "debian-12"}
    assert PackageURL.from_string(found["a-b"]["purl"]).version == "1+x"
    assert found["numpy"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert found["numpy"]["licenses"] == [{"expression": "BSD-3-Clause"}]


def test_a_base_without_a_list_gives_a_valid_one(bundle: Path) -> None:
    text = render_image_sbom(bundle, [], {})
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert [each["name"] for each in json.loads(text)["components"]] == ["tiny"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fetch", "--wheels", "."], "exclude each other"),
        (["--context-only", "x"], "--output excludes --context-only"),
        (["--install-base", "x"], "--output excludes --context-only and --install-base"),
        (["--platform", "linux/amd64", "--platform", "linux/arm64"], "writes one platform"),
    ],
)
def test_what_does_not_go_together(options: list[str], said: str, bundle: Path) -> None:
    result = image(bundle, "-o", "image.tar", *options)
    assert result.exit_code == 2
    assert said in result.output


def test_without_what_it_needs_nothing_is_written(bundle: Path, tmp_path: Path) -> None:
    layer = small.tar({"etc/x": b""})
    (tmp_path / "base").write_bytes(small.tar(small.oci([layer], small.config([layer]))))
    good = [small.tar(small.system())]
    (tmp_path / "good").write_bytes(small.tar(small.oci(good, small.config(good))))
    (tmp_path / "none").mkdir()
    (tmp_path / "mine.tar").write_bytes(small.tar({"letter": b"dear"}))
    (tmp_path / "link").symlink_to(tmp_path / "mine.tar")
    before = sorted(tmp_path.iterdir())
    for base, output, complaint in (
        ("base", "image.tar", "has no Python 3.11 in /usr/bin or /usr/local/bin"),
        ("good", "image.tar", "there is no wheel of anyio"),
        ("good", "mine.tar", "exists and is no image archive; name another --output"),
        ("good", "link", "exists and is no image archive; name another --output"),
        ("good", "mine.tar/x/image.tar", "cannot be written"),
    ):
        result = image(
            bundle, "-o", tmp_path / output, "--base", tmp_path / base, "--wheels",
            tmp_path / "none", "--platform", "linux/amd64",
        )  # fmt: skip
        assert isinstance(result.exception, ImageError), result.output
        assert complaint in str(result.exception)
    assert sorted(tmp_path.iterdir()) == before
