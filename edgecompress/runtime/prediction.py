"""What a bundle says: a class with its probabilities, entities, or what else its task answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgecompress.values import Json

if TYPE_CHECKING:
    import numpy as np

    from edgecompress.tasks import Answer


@dataclass(frozen=True, slots=True)
class Entity:
    """A span of a text.

    Attributes
    ----------
    text : str
        ``prediction.text[start:end]``.
    label : str
        The entity's type, without ``B-`` and ``I-``.
    start, end : int
        Characters from the beginning of the text; `end` is the first one behind the span.
    score : float
        Mean probability of the tags of the span's words, a fraction.
    """

    text: str
    label: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Prediction:
    """What a bundle says of one input.

    Attributes
    ----------
    said : dict
        All that the task says, as JSON (`Task.say`).
    unsent : tuple of str
        Keys of it that `to_json` leaves out.
    answer : Answer or None
        What it is said of; not compared.
    """

    said: Json
    unsent: tuple[str, ...] = ()
    answer: Answer | None = field(default=None, compare=False, repr=False)

    @property
    def text(self) -> str:
        """The text that was asked about; empty where it was none."""
        return str(self.said.get("text", ""))

    @property
    def label(self) -> str | None:
        """The likeliest class, of one input that has one."""
        return self.said.get("label")

    @property
    def score(self) -> float | None:
        """The likeliest class's probability, a fraction."""
        return self.said.get("score")

    @property
    def scores(self) -> Mapping[str, float]:
        """The probability of every class, in the bundle's order."""
        return dict(self.said.get("scores", {}))

    @property
    def vector(self) -> np.ndarray[Any, Any] | None:
        """Feature extraction: the text's vector, float32 (width,)."""
        import numpy as np  # inside: who imports the package may never ask for a vector

        found = self.said.get("vector")
        return None if found is None else np.array(found, np.float32)

    @property
    def vector_int8(self) -> np.ndarray[Any, Any] | None:
        """Feature extraction: the same in a quarter of the bytes, int8 (width,).

        Its largest number becomes 127: cosines stay, products of two such vectors do not.
        """
        from edgecompress.tasks.vectors import as_int8

        found = self.vector
        return None if found is None else as_int8(found)

    @property
    def similarity(self) -> float | None:
        """Feature extraction: how near the two texts of a pair are, from -1 to 1."""
        return self.said.get("similarity")

    @property
    def entities(self) -> tuple[Entity, ...]:
        """Token classification: the spans found, in the text's order."""
        return tuple(Entity(**one) for one in self.said.get("entities", ()))

    @property
    def words(self) -> tuple[str, ...]:
        """Token classification: the words that the text was split into."""
        return tuple(self.said.get("words", ()))

    @property
    def tags(self) -> tuple[str, ...]:
        """Token classification: the tag of each word."""
        return tuple(self.said.get("tags", ()))

    @property
    def shortened(self) -> tuple[tuple[int, int], ...]:
        """Token classification: words with more pieces than the model takes at once.

        As characters of `text`. Of such a word only the beginning was read; everything else of a
        text always is.
        """
        return tuple((start, end) for start, end in self.said.get("shortened", ()))

    def to_json(self) -> Json:
        """Give what the task answers as JSON: label and scores, or entities.

        ``shortened``, a list of [start, end], stands in it only where there is such a word.
        """
        return {key: value for key, value in self.said.items() if key not in self.unsent}
