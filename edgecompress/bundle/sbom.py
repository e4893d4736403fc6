"""The bundle's software bill of materials: ``sbom.cdx.json``, CycloneDX 1.6.

It lists the model and the preprocessor with the digests of their files, and every package of the
base install that runs them, with its version, its licence and what it requires. CycloneDX wants a
serial number and a time in most files; both are optional, and a core that is made again must have
the same bytes: so there is neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from edgecompress.errors import MissingExtraError

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

    from edgecompress.bundle.manifest import Manifest


def render_sbom(manifest: Manifest, digests: Mapping[str, str], packages: Mapping[str, str]) -> str:
    """Give the text of ``sbom.cdx.json``: the same for the same arguments.

    Parameters
    ----------
    manifest : Manifest
        Of the bundle that it describes.
    digests : mapping of str to str
        SHA-256 of the core's files by their path: the model's and the preprocessor's.
    packages : mapping of str to str
        Versions by distribution of what runs the bundle.

    Raises
    ------
    MissingExtraError
        When ``cyclonedx-python-lib`` is not installed.
    """
    try:
        from cyclonedx.model.bom import Bom, BomMetaData
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot6
    except ImportError:
        raise MissingExtraError("cyclonedx-python-lib") from None

    whole = Component(
        name=manifest.name,
        type=ComponentType.APPLICATION,
        bom_ref="bundle",
        version=_short_version(digests),
        description=f"edgecompress bundle: {manifest.task or 'ONNX model'}",
    )
    parts = _parts(manifest, digests)
    libraries = [_package(name, version, manifest) for name, version in sorted(packages.items())]
    bom = Bom(components=[*parts, *libraries], metadata=BomMetaData(component=whole))
    by_name = {component.name: component for component in libraries}
    first = [by_name[name] for name in ("edgecompress",) if name in by_name]
    bom.register_dependency(whole, [*parts, *(first or libraries)])
    for component in libraries:
        bom.register_dependency(component, _required(component.name, by_name))
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["serialNumber"], document["metadata"]["timestamp"]
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _parts(manifest: Manifest, digests: Mapping[str, str]) -> list[Component]:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    def file(name: str) -> Component:
        return Component(
            name=name,
            type=ComponentType.FILE,
            bom_ref=f"file:{name}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digests[name])],
        )

    folder = f"{manifest.preprocessor}/" if manifest.preprocessor else None
    own = {name for name in digests if folder and name.startswith(folder)}
    found = [
        Component(
            name=manifest.name,
            type=ComponentType.MACHINE_LEARNING_MODEL,
            bom_ref="model",
            version=digests[manifest.model][:12],
            description="ONNX model",
            licenses=_licence(manifest.licences.get("model")),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digests[manifest.model])],
            components=[file(name) for name in sorted(set(digests) - own)],
        )
    ]
    if own:
        found.append(
            Component(
                name=f"{manifest.name}-preprocessor",
                type=ComponentType.DATA,
                bom_ref="preprocessor",
                description="tokenizer",
                licenses=_licence(manifest.licences.get("model")),
                components=[file(name) for name in sorted(own)],
            )
        )
    return found


def _package(name: str, version: str, manifest: Manifest) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    address = PackageURL("pypi", None, name, version)
    return Component(
        name=name,
        type=ComponentType.LIBRARY,
        bom_ref=str(address),
        version=version,
        purl=address,
        licenses=_licence(manifest.licences.get("packages", {}).get(name)),
    )


def _licence(text: str | None) -> list[License]:
    """Give a licence as SPDX identifier or expression where it is one, else as a name."""
    from cyclonedx.contrib.license.factories import LicenseFactory

    return [LicenseFactory().make_from_string(text)] if text else []


def _required(name: str, known: Mapping[str, Component]) -> Iterable[Component]:
    from edgecompress.provenance import required

    return [known[other] for other in required(name) if other in known]


def _short_version(digests: Mapping[str, str]) -> str:
    from edgecompress.values import json_digest

    return json_digest(dict(digests))[:12]
