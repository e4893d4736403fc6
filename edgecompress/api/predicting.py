"""Asking a bundle: opened, and its answers laid out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgecompress.api.arguments import StrPath
from edgecompress.api.shown import Section, Shown
from edgecompress.api.signing import verify_with_key
from edgecompress.errors import ArgumentError
from edgecompress.runtime import load
from edgecompress.runtime.beside import Beside
from edgecompress.values import Json

if TYPE_CHECKING:
    from edgecompress.runtime import Prediction, Predictor
    from edgecompress.runtime.predictor import Question

Auto = int | Literal["auto"]


@dataclass(frozen=True, slots=True, repr=False)
class Predictions(Shown):
    """What a bundle answered; `described` says each in lines for a person."""

    predictions: tuple[Prediction, ...]
    described: tuple[str, ...]

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.predictions)

    def __len__(self) -> int:
        return len(self.predictions)

    def __getitem__(self, index: int) -> Prediction:
        return self.predictions[index]

    def to_json(self) -> list[Json]:
        """Give the answers as JSON, as `edgecompress predict --json` writes them."""
        return [one.to_json() for one in self.predictions]

    def sections(self) -> Iterator[Section]:
        """Say each answer."""
        lines = (line for text in self.described for line in text.split("\n"))
        yield Section("", notes=tuple(lines))


def predict(
    bundle: StrPath,
    texts: str | Iterable[Question],
    *,
    settings: Beside = (),
    threads: Auto = "auto",
    batch: Auto = "auto",
    tune: bool = False,
    verify: bool = True,
    key: StrPath | None = None,
) -> Predictions:
    """Answer texts with the model in `bundle`.

    Parameters
    ----------
    bundle : path
        The bundle's directory.
    texts : str or iterable
        One text, or several; also what else the bundle's task takes, such as lists of words.
    settings : mapping of str to object
        What stands beside every question, where the bundle's task takes something
        (temperature=0.7, stop=END).
    threads : int or "auto"
        Threads to use. auto: what was found to be fastest on this machine, or else one per
        physical core.
    batch : int or "auto"
        Texts to answer at once where that many are there. auto: 8, but 1 for a model with
        dynamic int8, whose answers depend on what else is in the batch.
    tune : bool
        Find the number of threads first, and remember it.
    verify : bool
        Compare the bundle with its digests first.
    key : path, optional
        Public key: refuse a bundle that was not signed with it, before anything of it is used.

    Raises
    ------
    ArgumentError
        When `threads` is given together with `tune`.
    BundleError, DataError
        When the bundle is damaged or cannot answer such a question.

    See Also
    --------
    edgecompress.load : keeps a bundle open for many calls.
    """
    if tune and threads != "auto":
        raise ArgumentError("--tune finds the number of threads; leave --threads out")
    predictor = open_bundle(bundle, threads=threads, batch=batch, verify=verify, key=key)
    if tune:
        predictor.tune()
    predictor.always(settings)
    found = tuple(predictor.stream([texts] if isinstance(texts, str) else texts))
    return Predictions(found, tuple(map(predictor.describe, found)))


def open_bundle(
    bundle: StrPath,
    *,
    threads: Auto = "auto",
    batch: Auto = "auto",
    verify: bool = True,
    key: StrPath | None = None,
) -> Predictor:
    """Verify a bundle, with its signatures where there is a key, and open it."""
    if key is not None:
        verify_with_key(Path(bundle), key, evidence=False)
    return load(
        Path(bundle),
        threads=None if threads == "auto" else threads,
        batch=None if batch == "auto" else batch,
        verify=verify and key is None,
    )
