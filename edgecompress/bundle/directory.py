"""Bundles: a directory that deploys a model, written once and verified to the last byte.

::

    manifest.json      task, labels, session; recipe, code, inputs, steps, versions, licences
    sbom.cdx.json      the model and the packages that run it, as CycloneDX
    model.onnx         and its external data, under the names that it uses
    preprocessor/      tokenizer.json, tokenizer_config.json, …
    core.sha256        digests of all of the above: `sha256sum -c core.sha256` reads it
    evidence/          README.md (the model card), measurements.json, report.html
    evidence.sha256    digests of the evidence
    *.sha256.sig       optional signatures over the lists (`edgecompress.bundle.signature`)

The *core* is the same bytes when it is made again from the same inputs; the *evidence* (what was
measured, where and when) stands beside it. Verifying rebuilds both lists from the directory and
compares bytes, so a change in a list is found too. It proves that nothing was damaged, not who made
it: lists are not signatures. Verifying needs the standard library only.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgecompress.bundle.digests import (
    CORE_LIST,
    EVIDENCE,
    EVIDENCE_LIST,
    SIGNATURES,
    bundle_files,
    check_list,
    check_place,
    is_evidence,
    list_text,
    listed_files,
    no_directory,
)
from edgecompress.bundle.manifest import (
    MANIFEST_NAME,
    Manifest,
    parse_manifest,
    portable,
)
from edgecompress.bundle.names import safe_path
from edgecompress.bundle.strictjson import MOST_BYTES
from edgecompress.errors import BundleError, DataError
from edgecompress.onnx_files import external_data
from edgecompress.reading import open_regular
from edgecompress.results import RunResult
from edgecompress.values import Candidate, Json, OnnxModel, Step, file_digest
from edgecompress.writing import put, writing

SBOM_NAME = "sbom.cdx.json"
_MODEL = "model.onnx"
_PREPROCESSOR = "preprocessor"
_RESERVED = (
    MANIFEST_NAME,
    SBOM_NAME,
    CORE_LIST,
    EVIDENCE_LIST,
    EVIDENCE,
    *SIGNATURES,
    _MODEL,
    _PREPROCESSOR,
)


def write_bundle(
    directory: Path,
    candidate: Candidate,
    recipe: Json,
    versions: Json,
    evidence: RunResult | None = None,
    report_html: str | None = None,
    *,
    inputs: Json | None = None,
    licences: Json | None = None,
    code: Json | None = None,
    platform: Json | None = None,
    packages: Json | None = None,
) -> Manifest:
    """Write `candidate` as a bundle to `directory`, whole or not at all.

    The bundle is made beside `directory`, verified, and renamed. A bundle that is there already
    is replaced; anything else there is left alone and is an error.

    Parameters
    ----------
    directory : Path
        Made, with its parents.
    candidate : Candidate
        Its model must be an `OnnxModel`.
    recipe, versions : dict
        JSON. Absolute paths in it become their last part: the core does not know this machine.
    evidence : RunResult, optional
        Becomes ``evidence/measurements.json``.
    report_html : str, optional
        Becomes ``evidence/report.html``.
    inputs, licences, code, platform : dict, optional
        JSON, as `Manifest` says (`edgecompress.engine.origin` finds all of it out). When `inputs`
        is left out, what the evidence says of the data.
    packages : dict, optional
        Versions by distribution of what a bundle needs to run, for ``sbom.cdx.json``; else what
        edgecompress's base install has here.

    Raises
    ------
    BundleError
        When the candidate cannot be bundled or the files cannot be written.
    DiskError
        When the disk is full or read-only.
    """
    if not isinstance(candidate.model, OnnxModel):
        raise BundleError(
            f"{directory}: only an ONNX model can be bundled; add an export stage to the chain"
        )
    if candidate.model.parts:
        names = ", ".join(candidate.model.graphs)
        raise BundleError(f"{directory}: a bundle holds one graph, and this model has {names}")
    if inputs is None:
        inputs = evidence.data if evidence else {}
    manifest = Manifest(
        name=str(recipe.get("name") or candidate.task or "model"),
        task=candidate.task,
        labels=candidate.labels,
        model=_MODEL,
        preprocessor=_PREPROCESSOR if candidate.preprocessor else None,
        session=candidate.model.session,
        steps=tuple(
            Step(step.stage, portable(step.parameters), portable(step.decisions), key=step.key)
            for step in candidate.steps
        ),
        recipe=portable(recipe),
        code=portable(code or {}),
        platform=portable(platform or {}),
        versions=portable(versions),
        inputs=portable(inputs),
        licences=portable(licences or {}),
        evidence=evidence is not None or report_html is not None,
    )
    try:
        with writing(directory) as aside:
            made = aside / "bundle"  # the outer folder is private to this user, this is not
            made.mkdir()
            _write_core(made, candidate, candidate.model, manifest, packages)
            _write_evidence(made, manifest, evidence, report_html)
            verify_bundle(made)
            move_into_place(made, directory)
    except OSError as error:
        place = error.filename or directory
        raise BundleError(
            f"{directory}: the bundle cannot be written ({place}: {error.strerror or error})"
        ) from None
    return manifest


def verify_bundle(directory: Path, *, evidence: bool = True) -> Manifest:
    """Prove that no byte of a bundle was changed, added or lost, and give its manifest.

    Parameters
    ----------
    directory : Path
    evidence : bool
        False checks the core alone, which is what predicts; the evidence may then be missing.

    Raises
    ------
    BundleError
        Naming the first file that is wrong.
    """
    check_place(directory, MANIFEST_NAME)
    try:
        files = listed_files(directory)
        beside = [name for name in files if is_evidence(name)]
        core = [name for name in files if name not in beside and name != CORE_LIST]
        check_list(directory, CORE_LIST, core)
        manifest = load_manifest(directory)
        if evidence and (manifest.evidence or beside):
            if not manifest.evidence:
                raise BundleError(
                    f"{directory / beside[0]}: was added; the bundle was written without evidence"
                )
            listed = [name for name in beside if name != EVIDENCE_LIST]
            check_list(directory, EVIDENCE_LIST, listed)
        _check_references(directory, manifest, core)
    except OSError as error:
        place = error.filename or directory
        raise BundleError(f"{place}: cannot be read ({error.strerror or error})") from None
    return manifest


def load_manifest(directory: Path) -> Manifest:
    """Read a bundle's manifest without checking any digest.

    Who leaves the digests unchecked still reads nothing but the bundle: links and special files
    are refused, wherever in it they stand.

    Raises
    ------
    BundleError
        When there is none, its format is unknown, a value in it is wrong, or something in the
        directory is no plain file.
    """
    file = directory / MANIFEST_NAME
    try:
        file.lstat()  # first: not every directory is a bundle whose files are to be looked at
        for _ in bundle_files(directory):
            pass
        with open_regular(file) as stream:
            return parse_manifest(stream.read(MOST_BYTES + 1), file)
    except FileNotFoundError:
        if not directory.is_dir():
            raise no_directory(directory) from None
        check_place(directory, MANIFEST_NAME)
        raise BundleError(f"{file}: missing; is this a bundle?") from None
    except OSError as error:
        if not directory.is_dir():
            raise no_directory(directory) from None
        raise BundleError(f"{file}: cannot be read ({error.strerror or error})") from None


def load_bundle(directory: Path) -> Candidate:
    """Give a bundle's model as a candidate, to be measured or worked on; the core is verified.

    Raises
    ------
    BundleError
        When the core is damaged.
    """
    manifest = verify_bundle(directory, evidence=False)
    return Candidate(
        model=OnnxModel(directory / manifest.model, manifest.session),
        preprocessor=directory / manifest.preprocessor if manifest.preprocessor else None,
        task=manifest.task,
        labels=manifest.labels,
        steps=manifest.steps,
    )


def _write_core(
    made: Path,
    candidate: Candidate,
    model: OnnxModel,
    manifest: Manifest,
    packages: Json | None,
) -> None:
    from edgecompress.bundle.sbom import render_sbom
    from edgecompress.provenance import installed
    from edgecompress.tasks import needed_extra

    shutil.copyfile(model.path, made / _MODEL)
    for location in external_data(model.path):
        if not safe_path(location) or location.split("/")[0] in _RESERVED:
            raise BundleError(
                f"{model.path}: names {location!r} as external data; it must be a path beside the "
                "model, and none of the bundle's own files"
            )
        (made / location).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.directory / location, made / location)
    if candidate.preprocessor:
        shutil.copytree(candidate.preprocessor, made / _PREPROCESSOR, copy_function=shutil.copyfile)
    digests = {name: file_digest(made / name) for name in bundle_files(made)}
    if packages is None:
        packages = installed(needed_extra(manifest.task))
    bill = render_sbom(manifest, digests, packages)
    (made / SBOM_NAME).write_text(bill, encoding="utf-8")
    (made / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    core = sorted(bundle_files(made))
    (made / CORE_LIST).write_bytes(list_text(made, core))


def _write_evidence(
    made: Path, manifest: Manifest, evidence: RunResult | None, report_html: str | None
) -> None:
    documents = {}
    if evidence is not None:
        from edgecompress.bundle.card import CARD, write_card
        from edgecompress.report.document import to_json

        documents[CARD] = write_card(made, manifest, evidence)
        documents["measurements.json"] = to_json(evidence, compact=True)
    if report_html is not None:
        documents["report.html"] = report_html
    if documents:
        folder = made / EVIDENCE
        folder.mkdir()
        for name, text in documents.items():
            (folder / name).write_text(text, encoding="utf-8")
        names = sorted(f"{EVIDENCE}/{name}" for name in documents)
        (made / EVIDENCE_LIST).write_bytes(list_text(made, names))


def check_replaced(directory: Path) -> None:
    """See that a bundle may be put at `directory`: nothing is there, or an older bundle.

    Raises
    ------
    BundleError
        When something else is there.
    """
    if directory.is_symlink() or directory.exists():
        is_bundle = (directory / MANIFEST_NAME).exists() and (directory / CORE_LIST).exists()
        is_empty = directory.is_dir() and not any(directory.iterdir())
        if directory.is_symlink() or not (is_bundle or is_empty):
            raise BundleError(
                f"{directory}: exists and is no bundle; remove it or choose another place"
            )


def move_into_place(made: Path, directory: Path) -> None:
    """Put a whole bundle, made in a folder of `writing`, at `directory`; replace one there.

    Raises
    ------
    BundleError
        When something else is there.
    """
    check_replaced(directory)
    put(made, directory)


def _check_references(directory: Path, manifest: Manifest, core: list[str]) -> None:
    """Check that all that the manifest and the model name is in the core."""
    if manifest.model not in core:
        raise BundleError(f"{directory / manifest.model}: missing; {MANIFEST_NAME} names it")
    folder = manifest.preprocessor
    if folder and not any(name.startswith(f"{folder}/") for name in core):
        raise BundleError(f"{directory / folder}: missing; {MANIFEST_NAME} names it")
    try:
        locations = external_data(directory / manifest.model)
    except DataError as error:
        raise BundleError(str(error)) from None
    beside = manifest.model.rpartition("/")[0]
    for location in locations:
        name = f"{beside}/{location}" if beside else location
        if not safe_path(location) or name not in core:
            raise BundleError(
                f"{directory / manifest.model}: names {location!r} as external data, which is not "
                "in the bundle"
            )
