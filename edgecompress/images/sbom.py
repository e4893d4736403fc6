"""An image's software bill of materials: ``/sbom.cdx.json``, CycloneDX 1.6.

It lists the bundle, the Python packages with the digests of their wheels, and what the base says
that it has: Debian's packages, a Python that was built there, and what pip put beside it. It has
neither a serial number nor a time, so that the same image has the same list.

The Dockerfile runs this file inside the image that is built, where there is nothing but the base
install; so the text is made without ``cyclonedx-python-lib``. The tests validate it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

SBOM_FILE = "sbom.cdx.json"
_OS, _PYTHON, _DPKG, _SITE = "os-release", "patchlevel.h", "status", "site-packages/"
_SOURCES = (
    (re.compile(r"usr/lib/os-release"), _OS),
    (re.compile(r"usr/local/include/python3\.11/patchlevel\.h"), _PYTHON),
    (re.compile(r"var/lib/dpkg/status(?:\.d/([^/]+))?"), _DPKG),
    (re.compile(r"usr/local/lib/python3\.11/site-packages/([^/]+\.dist-info/METADATA)"), _SITE),
)
_PLACES = (
    "usr/lib/os-release", "usr/local/include/python3.11/patchlevel.h", "var/lib/dpkg/status",
    "var/lib/dpkg/status.d/*", "usr/local/lib/python3.11/site-packages/*.dist-info/METADATA",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Package:
    """A Python package.

    Attributes
    ----------
    name, version : str
        As its metadata says.
    licence : str
        SPDX expression, or empty.
    sha256 : str
        Of the wheel, or empty where nobody knows.
    """

    name: str
    version: str
    licence: str
    sha256: str = ""

    @classmethod
    def of(cls, metadata: Message, sha256: str = "") -> Package:
        """Make one of the fields of METADATA."""
        return cls(
            canonical(str(metadata["Name"])),
            str(metadata["Version"]),
            str(metadata["License-Expression"] or ""),
            sha256,
        )


def canonical(name: str) -> str:
    """Give the one spelling of a Python package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def source_name(path: str) -> str | None:
    """Say what a file of the base is to `render_image_sbom`, by its path in the image."""
    for pattern, name in _SOURCES:
        if found := pattern.fullmatch(path):
            return name + (found[1] or "" if pattern.groups else "")
    return None


def render_image_sbom(bundle: Path, packages: Iterable[Package], base: Mapping[str, bytes]) -> str:
    """Give the text of the list: the same for the same arguments.

    Parameters
    ----------
    bundle : Path
        The bundle in the image; its own list stands in it.
    packages : iterable of Package
    base : mapping of str to bytes
        Files of the base by `source_name`.
    """
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    core = hashlib.sha256((bundle / "core.sha256").read_bytes()).hexdigest()
    texts = {name: content.decode("utf-8", "replace") for name, content in base.items()}
    whole = {
        "type": "application",
        "bom-ref": "bundle",
        "name": manifest["name"],
        "version": core[:12],
        "hashes": [{"alg": "SHA-256", "content": core}],
        "externalReferences": [{"type": "bom", "url": f"bundle/{SBOM_FILE}"}],
    }
    found = [*_system(texts), *map(_python, packages), *map(_python, _beside(texts))]
    by_reference = {component["bom-ref"]: component for component in reversed(found)}
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "container", "bom-ref": "image", "name": manifest["name"]}
        },
        "components": [whole, *(by_reference[name] for name in sorted(by_reference))],
    }
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _python(package: Package) -> dict[str, Any]:
    address = f"pkg:pypi/{quote(package.name, safe='')}@{quote(package.version, safe='')}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": address,
        "name": package.name,
        "version": package.version,
        "purl": address,
    }
    if package.licence:
        component["licenses"] = [{"expression": package.licence}]
    if package.sha256:
        component["hashes"] = [{"alg": "SHA-256", "content": package.sha256}]
    return component


def _system(texts: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Give the components of the base: the system, Debian's packages, a Python of its own."""
    lines = (line.partition("=") for line in texts.get(_OS, "").splitlines())
    about = {key: value.strip("\"'") for key, _, value in lines}
    system, version = about.get("ID") or "debian", about.get("VERSION_ID", "")
    if _OS in texts:
        component = {"type": "operating-system", "bom-ref": "system", "name": system}
        yield component | ({"version": version} if version else {})
    for name in sorted(texts):
        if name.startswith(_DPKG):
            for package in _paragraphs(texts[name]):
                yield _debian(package, system, version)
    if built := re.search(r'#define\s+PY_VERSION\s+"([^"]+)"', texts.get(_PYTHON, "")):
        address = f"pkg:generic/python@{quote(built[1], safe='')}"
        yield {"type": "application", "bom-ref": address, "name": "python", "version": built[1],
               "purl": address}  # fmt: skip


def _debian(package: Message, system: str, version: str) -> dict[str, Any]:
    name, given = str(package["Package"]), str(package["Version"])
    address = f"pkg:deb/{quote(system, safe='')}/{quote(name, safe='')}@{quote(given, safe='')}"
    qualifiers = [f"arch={quote(str(package['Architecture'] or 'all'), safe='')}"]
    qualifiers += [f"distro={quote(f'{system}-{version}', safe='')}"] if version else []
    address += f"?{'&'.join(qualifiers)}"
    return {
        "type": "library", "bom-ref": address, "name": name, "version": given, "purl": address,
    }  # fmt: skip


def _paragraphs(text: str) -> Iterator[Message]:
    """Give what is installed of dpkg's status file (deb822), or of distroless's ``status.d``."""
    for paragraph in re.split(r"\n[ \t]*\n", text):
        fields = Parser().parsestr(paragraph.lstrip("\n"), headersonly=True)
        status = str(fields["Status"] or "installed").split()[-1]
        if fields["Package"] and fields["Version"] and status in ("installed", "unpacked"):
            yield fields


def _beside(texts: Mapping[str, str]) -> Iterator[Package]:
    for name, text in sorted(texts.items()):
        metadata = Parser().parsestr(text, headersonly=True) if name.startswith(_SITE) else None
        if metadata and metadata["Name"] and metadata["Version"]:
            yield Package.of(metadata)


def _copied(folder: Path) -> dict[str, bytes]:
    """Read the files of the base that say what it has; the Dockerfile copied it to `folder`."""
    found = {}
    for pattern in _PLACES:
        for path in folder.glob(pattern):
            name = source_name(path.relative_to(folder).as_posix())
            if name is not None and path.is_file():
                found[name] = path.read_bytes()
    return found


def _sha256(entry: dict[str, Any]) -> str:
    """Read a wheel's digest from pip's report; pip before 23.1 has it under another key."""
    about = entry["download_info"]["archive_info"]
    return str(about["hashes"]["sha256"] if "hashes" in about else about["hash"][len("sha256=") :])


def main() -> None:
    """Write the list of what the Dockerfile has put together to standard output."""
    parser = argparse.ArgumentParser(description="Write the SBOM of an image that is being built.")
    for name in ("bundle", "site", "report", "base"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    report = json.loads(given.report.read_text(encoding="utf-8"))
    hashes = {canonical(entry["metadata"]["name"]): _sha256(entry) for entry in report["install"]}
    found = [Package.of(each.metadata) for each in distributions(path=[str(given.site)])]  # type: ignore[arg-type]
    packages = [Package(each.name, each.version, each.licence, hashes[each.name]) for each in found]
    sys.stdout.write(render_image_sbom(given.bundle, packages, _copied(given.base)))


if __name__ == "__main__":
    main()
