"""The manifest of a bundle: what it says, and how it is read without trusting it.

Standard library only, so every value is checked by hand. A manifest comes from wherever the bundle
came from: a path in it must stay inside the bundle, and a session setting must not name a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edgecompress.bundle.names import MOST_NAME_BYTES, safe_path
from edgecompress.bundle.strictjson import strict_json
from edgecompress.errors import BundleError
from edgecompress.values import Json, SessionSettings, Step, session_from_json

FORMAT = 1
MANIFEST_NAME = "manifest.json"

_LEVELS = ("disable", "basic", "extended", "all")
# Session entries that make ONNX Runtime open another file, or read the model as another format:
# onnxruntime_session_options_config_keys.h names them all with one of these words.
_UNSAFE_ENTRY = re.compile(r"path|file|folder|directory|library|load_model_format", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``manifest.json`` says of a bundle.

    Attributes
    ----------
    name : str
        The recipe's name, or the bundle's.
    task : str or None
        ``token-classification``, ``text-classification``; None for an unknown ONNX file.
    labels : tuple of str
        Class names by id.
    model : str
        The ONNX file, as a POSIX path inside the bundle.
    preprocessor : str or None
        The tokenizer's folder, as a POSIX path inside the bundle.
    session : SessionSettings
        How ONNX Runtime must open the model.
    steps : tuple of Step
        What was done to the teacher, with what each stage decided. Without durations and what was
        measured on the way: the core must be the same bytes when it is made again.
        ``key`` is the store's key of a step's result: SHA-256 over the stage, its code and
        parameters, its inputs, the seed and the libraries' versions.
    recipe : dict
        The recipe as it ran, with what ``--set`` laid over it; of a path the last part, and not
        the folder of the data.
    code : dict
        ``version`` of edgecompress and ``digest``, SHA-256 over its Python source
        (`edgecompress.provenance.package_digest`).
    versions : dict
        Version by distribution: edgecompress and all that ``edgecompress[build]`` requires, as it
        was installed.
    platform : dict
        What of the machine the bytes may depend on: ``machine`` (``x86_64``), ``isa`` (instruction
        sets that change how libraries add up), ``python``, ``libc``. Never a number of cores.
    inputs : dict
        ``data``: for each split ``digest``, ``examples`` (how many) and ``files`` (``name``,
        ``sha256``); ``teacher`` and ``model``: ``from``, ``digest`` (as
        `edgecompress.provenance.candidate_digest`), ``files``; ``calibration``: ``name``,
        ``digest`` of each set that a step used. What a run did not have is absent.
    licences : dict
        ``model``, ``data``: SPDX expressions or text, absent where nobody said; ``packages``: the
        same by distribution, for what a bundle needs to run.
    evidence : bool
        Whether measurements and report were written beside the core.
    format : int
        Version of this layout.
    """

    name: str
    task: str | None
    labels: tuple[str, ...]
    model: str
    preprocessor: str | None
    session: SessionSettings = field(default_factory=SessionSettings)
    steps: tuple[Step, ...] = ()
    recipe: Json = field(default_factory=dict)
    code: Json = field(default_factory=dict)
    platform: Json = field(default_factory=dict)
    versions: Json = field(default_factory=dict)
    inputs: Json = field(default_factory=dict)
    licences: Json = field(default_factory=dict)
    evidence: bool = False
    format: int = FORMAT

    def to_json(self) -> str:
        """Give the manifest's text: sorted keys, one layout, no durations.

        Raises
        ------
        BundleError
            When a value is not JSON or not a finite number.
        """
        document = asdict(self)
        for step in document["steps"]:
            del step["seconds"], step["measured"]
        try:
            text = json.dumps(
                document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False
            )
            text.encode()
        except (TypeError, ValueError) as error:
            raise BundleError(f"{MANIFEST_NAME}: a value cannot be written ({error})") from None
        return text + "\n"


def newer_runtime(manifest: Manifest, installed: str) -> str | None:
    """Give the ONNX Runtime that a bundle was made with, where it is newer than `installed`.

    Operators and formats only get more: an older one may refuse the model, a newer one does not.
    """
    made_with = manifest.versions.get("onnxruntime")
    if not isinstance(made_with, str):
        return None
    return made_with if _release(made_with) > _release(installed) else None


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version[:40])[:2])


def portable(value: Any) -> Any:
    """Give JSON without this machine's folders: an absolute path becomes its last part.

    A bundle must not depend on where it was made; what the files held is in the digests.

    Parameters
    ----------
    value : JSON, with paths and tuples allowed
    """
    if isinstance(value, Mapping):
        return {str(key): portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str) and (value.startswith(("/", "~/")) and len(value) > 1):
        return PurePosixPath(value).name
    return value


def parse_manifest(text: bytes, file: Path) -> Manifest:
    """Read a manifest's bytes; `file` is named in the error.

    Raises
    ------
    BundleError
        When the text is no manifest of a known format, a value has the wrong type, or a path
        would leave the bundle.
    """
    try:
        document = strict_json(text)
    except ValueError as error:
        raise BundleError(f"{file}: {error}") from None
    return _Reader(file).manifest(document)


def _short(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}…")


class _Reader:
    """Checks values one by one, so that an error can name the key."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def manifest(self, document: Any) -> Manifest:
        top = self._mapping(document, "the manifest")
        found = top.get("format")
        if type(found) is not int:
            raise self._wrong("format", "a whole number")
        if found != FORMAT:
            raise BundleError(
                f"{self._file}: format {str(found)[:20]} is unknown; this edgecompress reads "
                f"format {FORMAT}: install the version that made the bundle"
            )
        known = set(Manifest.__dataclass_fields__)
        for key in [*sorted(known - set(top)), *sorted(set(top) - known)]:
            raise BundleError(
                f"{self._file}: key {_short(key)} is {'unknown' if key in top else 'missing'}"
            )
        task = None if top["task"] is None else self._text(top["task"], "task")
        labels = tuple(self._text(name, "labels") for name in self._list(top["labels"], "labels"))
        if len(set(labels)) != len(labels):
            raise self._wrong("labels", "a list without duplicates")
        folder = top["preprocessor"]
        if type(top["evidence"]) is not bool:
            raise self._wrong("evidence", "true or false")
        return Manifest(
            name=self._text(top["name"], "name"),
            task=task,
            labels=labels,
            model=self._path(top["model"], "model"),
            preprocessor=None if folder is None else self._path(folder, "preprocessor"),
            session=self._session(top["session"]),
            steps=tuple(self._step(step) for step in self._list(top["steps"], "steps")),
            recipe=self._mapping(top["recipe"], "recipe"),
            code=self._mapping(top["code"], "code"),
            platform=self._mapping(top["platform"], "platform"),
            versions=self._mapping(top["versions"], "versions"),
            inputs=self._mapping(top["inputs"], "inputs"),
            licences=self._mapping(top["licences"], "licences"),
            evidence=top["evidence"],
        )

    def _session(self, value: Any) -> SessionSettings:
        session = self._mapping(value, "session")
        names = set(SessionSettings.__dataclass_fields__)
        if set(session) != names:
            raise self._wrong("session", f"a mapping with the keys {', '.join(sorted(names))}")
        if session["graph_optimization_level"] not in _LEVELS:
            raise self._wrong("session.graph_optimization_level", f"one of {', '.join(_LEVELS)}")
        key = "session.disabled_optimizers"
        for name in self._list(session["disabled_optimizers"], key):
            self._text(name, key)
        key = "session.config_entries"
        for pair in self._list(session["config_entries"], key):
            if not isinstance(pair, list) or len(pair) != 2:
                raise self._wrong(key, "a list of pairs of text")
            entry = self._text(pair[0], key)
            self._text(pair[1], key)
            if _UNSAFE_ENTRY.search(entry):
                raise BundleError(
                    f"{self._file}: {key} sets {_short(entry)}, which can make ONNX Runtime read "
                    "or write outside the bundle; it is refused"
                )
        return session_from_json(session)

    def _step(self, value: Any) -> Step:
        step = self._mapping(value, "steps")
        if set(step) != {"stage", "parameters", "decisions", "key"}:
            raise self._wrong(
                "steps", "a list of mappings with stage, parameters, decisions and key"
            )
        return Step(
            stage=self._text(step["stage"], "steps.stage", empty=True),
            parameters=self._mapping(step["parameters"], "steps.parameters"),
            decisions=self._mapping(step["decisions"], "steps.decisions"),
            key=self._text(step["key"], "steps.key", empty=True),
        )

    def _path(self, value: Any, key: str) -> str:
        path = self._text(value, key)
        if not safe_path(path):
            raise BundleError(
                f"{self._file}: {key} is {_short(path)}, a path that leaves the bundle"
            )
        if len(path.encode()) > MOST_NAME_BYTES:
            raise self._wrong(key, f"a path of at most {MOST_NAME_BYTES} bytes")
        return path

    def _mapping(self, value: Any, key: str) -> Json:
        if not isinstance(value, dict):
            raise self._wrong(key, "a mapping")
        return value

    def _list(self, value: Any, key: str) -> list[Any]:
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return value

    def _text(self, value: Any, key: str, *, empty: bool = False) -> str:
        if not isinstance(value, str) or not (value or empty) or "\0" in value:
            raise self._wrong(key, "text")
        return value

    def _wrong(self, key: str, wanted: str) -> BundleError:
        return BundleError(f"{self._file}: {key} must be {wanted}")
