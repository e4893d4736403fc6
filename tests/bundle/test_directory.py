"""Bundles: the same bytes each time, whole or not at all, and no changed byte goes unseen."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecompress.bundle import load_bundle, load_manifest, verify_bundle, write_bundle
from edgecompress.bundle.manifest import Manifest, parse_manifest, portable
from edgecompress.bundle.names import safe_path
from edgecompress.errors import BundleError
from edgecompress.results import RunResult, Verdict
from edgecompress.values import (
    Candidate,
    OnnxModel,
    SessionSettings,
    Step,
    TorchModel,
    directory_digests,
)

MakeBundle = Callable[..., Path]


def result() -> RunResult:
    verdict = Verdict("budget", "pass", "within all limits")
    return RunResult(
        name="tiny",
        task="text-classification",
        recipe={},
        rows=(),
        winner=None,
        verdict=verdict,
        minimize="size",
        budget=(),
        environment={"host": "this machine"},
        data={"digests": {"test": "00"}},
    )


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, classifier: Candidate) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "bundle"
    write_bundle(folder, classifier, {"name": "tiny"}, {}, result(), "<h1>tiny</h1>")
    return folder


def reseal(bundle: Path) -> None:
    """Write the core's list anew, as someone would who makes a bundle by hand."""
    names = sorted(
        path.relative_to(bundle).as_posix()
        for path in bundle.rglob("*")
        if path.is_file() and path.name not in ("core.sha256", "evidence.sha256")
    )
    lines = [
        f"{hashlib.sha256((bundle / name).read_bytes()).hexdigest()}  {name}\n"
        for name in names
        if not name.startswith("evidence/")
    ]
    (bundle / "core.sha256").write_text("".join(lines), encoding="utf-8")


def test_layout_and_manifest(whole: Path, classifier: Candidate) -> None:
    assert set(directory_digests(whole)) == {
        "manifest.json",
        "model.onnx",
        "model.onnx.data",
        "preprocessor/tokenizer.json",
        "preprocessor/tokenizer_config.json",
        "core.sha256",
        "sbom.cdx.json",
        "evidence/README.md",
        "evidence/measurements.json",
        "evidence/report.html",
        "evidence.sha256",
    }
    manifest = verify_bundle(whole)
    assert manifest.task == "text-classification"
    assert manifest.labels == classifier.labels
    assert manifest.session == classifier.model.session  # type: ignore[union-attr]
    assert manifest.steps == (replace(classifier.steps[0], seconds=0.0),)
    assert manifest.inputs == result().data
    assert json.loads((whole / "evidence/measurements.json").read_text())["name"] == "tiny"


def test_sha256sum_reads_the_lists(whole: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("needs sha256sum of coreutils")
    for name in ("core.sha256", "evidence.sha256"):
        subprocess.run(["sha256sum", "--check", "--strict", name], cwd=whole, check=True)


def test_the_core_is_the_same_bytes_when_made_again(
    tmp_path: Path, classifier: Candidate, whole: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(classifier.model.directory, moved / "model")
    assert classifier.preprocessor
    shutil.copytree(classifier.preprocessor, moved / "preprocessor")
    os.utime(moved / "model" / "model.onnx", (1, 1))
    slower = tuple(replace(step, seconds=99.0) for step in classifier.steps)
    model = OnnxModel(moved / "model" / "model.onnx", classifier.model.session)  # type: ignore[union-attr]
    again = replace(classifier, model=model, preprocessor=moved / "preprocessor", steps=slower)
    write_bundle(tmp_path / "b", again, {"name": "tiny"}, {}, result(), "<h1>another page</h1>")
    assert (tmp_path / "b" / "core.sha256").read_bytes() == (whole / "core.sha256").read_bytes()


def test_the_core_does_not_know_this_machine(
    tmp_path: Path, tagger: Candidate, make_bundle: MakeBundle
) -> None:
    recipe = {"name": "n", "teacher": {"model": "/home/me/minilm"}, "data": {"root": tmp_path}}
    steps = (Step("prune", {"from": "/tmp/x/y"}, {"kept": ["/abs/one", "a/b"]}),)
    bundle = make_bundle(replace(tagger, steps=steps), recipe=recipe)
    manifest = load_manifest(bundle)
    assert manifest.recipe["teacher"]["model"] == "minilm"
    assert manifest.recipe["data"]["root"] == tmp_path.name
    assert manifest.steps[0].parameters == {"from": "y"}
    assert manifest.steps[0].decisions == {"kept": ["one", "a/b"]}
    assert portable({"division": "/", "text": "a / b", "n": 1}) == {
        "division": "/",
        "text": "a / b",
        "n": 1,
    }


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found(whole: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(directory_digests(whole))))
    file = whole / name
    before = file.read_bytes()
    at = data.draw(st.integers(0, len(before) - 1))
    flipped = data.draw(st.integers(1, 255))
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "append"]))
    after = {
        "flip": before[:at] + bytes([before[at] ^ flipped]) + before[at + 1 :],
        "cut": before[:at] + before[at + 1 :],
        "insert": before[:at] + bytes([flipped]) + before[at:],
        "append": before + bytes([flipped]),
    }[how]
    try:
        file.write_bytes(after)
        with pytest.raises(BundleError):
            verify_bundle(whole)
    finally:
        file.write_bytes(before)
    verify_bundle(whole)


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "model.onnx",
        "model.onnx.data",
        "preprocessor/tokenizer.json",
        "core.sha256",
        "evidence/report.html",
        "evidence.sha256",
    ],
)
def test_a_missing_file_is_named(whole: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: missing"):
        verify_bundle(copy)


@pytest.mark.parametrize("name", ["extra.txt", "preprocessor/extra.txt", "evidence/extra.txt"])
def test_an_added_file_is_named(whole: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    (copy / name).write_text("")
    with pytest.raises(BundleError, match=f"{name}: was added"):
        verify_bundle(copy)


def test_the_core_verifies_without_its_evidence_when_asked(whole: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    shutil.rmtree(copy / "evidence")
    (copy / "evidence.sha256").unlink()
    verify_bundle(copy, evidence=False)
    with pytest.raises(BundleError, match=r"evidence\.sha256: missing"):
        verify_bundle(copy)


def test_evidence_that_was_never_written_is_not_wanted(
    tagger: Candidate, make_bundle: MakeBundle
) -> None:
    bundle = make_bundle(tagger)
    assert not verify_bundle(bundle).evidence
    (bundle / "evidence").mkdir()
    (bundle / "evidence" / "report.html").write_text("no one measured this")
    with pytest.raises(BundleError, match=r"evidence/report\.html: was added"):
        verify_bundle(bundle)


def test_links_are_refused(whole: Path, tmp_path: Path) -> None:
    for name, target in (("model.onnx", whole / "model.onnx"), ("preprocessor", whole)):
        copy = shutil.copytree(whole, tmp_path / name)
        if (copy / name).is_dir():
            shutil.rmtree(copy / name)
        else:
            (copy / name).unlink()
        (copy / name).symlink_to(target)
        with pytest.raises(BundleError, match=f"{name}: is a link"):
            verify_bundle(copy)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("model", "../model.onnx", "leaves the bundle"),
        ("model", "/etc/passwd", "leaves the bundle"),
        ("model", "a\\..\\b", "leaves the bundle"),
        ("model", "C:model.onnx", "leaves the bundle"),
        ("model", "gone.onnx", "missing"),
        ("preprocessor", "preprocessor/..", "leaves the bundle"),
        ("preprocessor", "gone", "missing"),
        ("preprocessor", 3, "must be text"),
        ("format", 2, "format 2 is unknown"),
        ("format", True, "must be a whole number"),
        ("format", "1", "must be a whole number"),
        ("labels", "hau", "must be a list"),
        ("labels", ["hau", "hau"], "without duplicates"),
        ("labels", [1], "must be text"),
        ("task", "", "must be text"),
        ("evidence", 1, "true or false"),
        ("steps", [{"stage": "x"}], "steps must be"),
        ("recipe", [], "must be a mapping"),
        ("session", {}, "session must be"),
        ("unknown", 1, "unknown"),
    ],
)
def test_a_wrong_manifest_is_refused_in_one_sentence(
    whole: Path, tmp_path: Path, key: str, value: object, says: str
) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    document = json.loads((copy / "manifest.json").read_text())
    document[key] = value
    (copy / "manifest.json").write_text(json.dumps(document))
    reseal(copy)
    with pytest.raises(BundleError, match=says) as caught:
        verify_bundle(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "entry",
    ["session.model_external_initializers_file_folder_path", "session.load_model_format"],
)
def test_settings_that_open_other_files_are_refused(
    tagger: Candidate, make_bundle: MakeBundle, entry: str
) -> None:
    unsafe = SessionSettings(config_entries=((entry, "/etc"),))
    with pytest.raises(BundleError, match=entry):
        make_bundle(replace(tagger, model=replace(tagger.model, session=unsafe)))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(sorted(Manifest.__dataclass_fields__)), value=json_values)
def test_any_manifest_is_read_or_refused(whole: Path, key: str, value: object) -> None:
    document = json.loads((whole / "manifest.json").read_text())
    document[key] = value
    with contextlib.suppress(BundleError):
        parse_manifest(json.dumps(document).encode(), Path("manifest.json"))


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_as_a_manifest(text: bytes) -> None:
    with pytest.raises(BundleError):
        parse_manifest(text, Path("manifest.json"))


def test_a_deep_manifest_is_refused() -> None:
    with pytest.raises(BundleError, match="not valid JSON"):
        parse_manifest(b"[" * 200_000, Path("manifest.json"))


@given(
    st.builds(
        Manifest,
        name=st.text(min_size=1, max_size=5).filter(lambda text: "\0" not in text),
        task=st.none() | st.just("text-classification"),
        labels=st.sets(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
            max_size=3,
        ).map(lambda labels: tuple(sorted(labels))),
        model=st.just("model.onnx"),
        preprocessor=st.none() | st.just("preprocessor"),
        recipe=st.dictionaries(st.text(max_size=3), json_values, max_size=3),
        evidence=st.booleans(),
    )
)
def test_a_manifest_survives_writing_and_reading(manifest: Manifest) -> None:
    assert parse_manifest(manifest.to_json().encode(), Path("manifest.json")) == manifest


@given(st.text(max_size=20))
def test_a_safe_path_stays_inside(name: str) -> None:
    if safe_path(name):
        inside = os.path.normpath(os.path.join("/root/bundle", name))  # noqa: PTH118
        assert inside.startswith("/root/bundle/")
        assert inside == f"/root/bundle/{name}"


def set_location(model: Path, location: str) -> None:
    """Make an ONNX file's first external tensor name another place."""
    proto = onnx.load(str(model), load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = location
    model.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "manifest.json", "a/../b"])
def test_external_data_cannot_leave_the_bundle(
    tmp_path: Path, whole: Path, classifier: Candidate, make_bundle: MakeBundle, location: str
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(1000))
    shutil.copytree(classifier.model.directory, tmp_path / "model")
    model = OnnxModel(tmp_path / "model" / "model.onnx")
    set_location(model.path, location)
    with pytest.raises(BundleError, match="external data"):
        make_bundle(replace(classifier, model=model))
    assert not (tmp_path / "bundle").exists()

    copy = shutil.copytree(whole, tmp_path / "copy")
    set_location(copy / "model.onnx", location)
    reseal(copy)
    if location != "manifest.json":  # which is inside, and harmless to read
        with pytest.raises(BundleError, match="external data"):
            verify_bundle(copy)


def test_a_torch_model_is_refused(tagger: Candidate, tmp_path: Path) -> None:
    candidate = replace(tagger, model=TorchModel(tagger.model.directory))
    with pytest.raises(BundleError, match="add an export stage"):
        write_bundle(tmp_path / "bundle", candidate, {}, {})


def test_a_bundle_is_replaced_and_anything_else_is_left_alone(
    tagger: Candidate, classifier: Candidate, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    make_bundle(tagger)
    assert verify_bundle(make_bundle(classifier)).task == "text-classification"
    (tmp_path / "empty").mkdir()
    verify_bundle(make_bundle(tagger, "empty"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        make_bundle(tagger, "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "empty", "mine"}


def test_a_failed_write_leaves_nothing_and_the_old_bundle_whole(
    tagger: Candidate, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = make_bundle(tagger)
    before = directory_digests(bundle)
    gone = replace(tagger, preprocessor=tmp_path / "gone")
    with pytest.raises(BundleError, match="cannot be written"):
        make_bundle(gone)
    with pytest.raises(BundleError, match="cannot be written"):
        make_bundle(tagger, versions={"numpy": float("nan")})
    assert directory_digests(bundle) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_place_that_takes_no_bundle_is_named(tagger: Candidate, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="file/bundle: the bundle cannot be written"):
        write_bundle(tmp_path / "file" / "bundle", tagger, {}, {})


def test_running_out_of_space_leaves_nothing(tagger: Candidate, tmp_path: Path) -> None:
    # The system refuses to let files grow beyond 300 bytes: the model's copy breaks off.
    code = (
        "import resource; from pathlib import Path\n"
        "from edgecompress.bundle import write_bundle\n"
        "from edgecompress.errors import DiskError\n"
        "from edgecompress.values import Candidate, OnnxModel\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "try:\n"
        f"    model = OnnxModel(Path({str(tagger.model.directory / 'model.onnx')!r}))\n"
        f"    write_bundle(Path({str(tmp_path / 'bundle')!r}), Candidate(model), {{}}, {{}})\n"
        "except DiskError as error:\n"
        "    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"nothing more can be written to {tmp_path}" in said.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_task_or_tokenizer_is_bundled(
    tagger: Candidate, make_bundle: MakeBundle
) -> None:
    bundle = make_bundle(Candidate(tagger.model))
    assert verify_bundle(bundle).preprocessor is None


def test_a_bundle_is_a_candidate_again(tagger: Candidate, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tagger)
    again = load_bundle(bundle)
    assert (again.task, again.labels) == (tagger.task, tagger.labels)
    assert isinstance(again.model, OnnxModel)
    assert again.model == OnnxModel(bundle / "model.onnx", tagger.model.session)  # type: ignore[union-attr]


def test_what_is_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="gone: no such directory"):
        verify_bundle(tmp_path / "gone")
    with pytest.raises(BundleError, match=r"core\.sha256: missing; is this a whole bundle"):
        verify_bundle(tmp_path)
    with pytest.raises(BundleError, match=r"manifest\.json: missing; is this a bundle"):
        load_manifest(tmp_path)


def test_verifying_needs_the_standard_library_only(whole: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "before = set(sys.modules)\n"  # what .pth files of the environment bring
        "from edgecompress.bundle import verify_bundle\n"
        f"verify_bundle(Path({str(whole)!r}))\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - sys.stdlib_module_names))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["edgecompress"]


def test_every_key_of_the_manifest_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")
    for key in Manifest.__dataclass_fields__:
        assert f"\n| `{key}` |" in page, key
    for key in SessionSettings.__dataclass_fields__:
        assert f"`{key}`" in page, key


def test_a_file_in_a_bundles_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.tar.zst").write_bytes(b"")
    for read in (load_manifest, verify_bundle):
        with pytest.raises(BundleError, match=r"b\.tar\.zst: is a file.*bundle unpack"):
            read(tmp_path / "b.tar.zst")
        with pytest.raises(BundleError, match="gone: no such directory"):
            read(tmp_path / "gone")
