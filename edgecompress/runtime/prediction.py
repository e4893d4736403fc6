"""What a bundle is asked and what it says: a class with its probabilities, or entities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgecompress.values import Json


@dataclass(frozen=True, slots=True)
class Question:
    """A text to be classified, or whose words are to be tagged.

    Attributes
    ----------
    text : str
    spans : tuple of (start, end), or None
        Each word's characters in `text`; None where the text is classified.
    """

    text: str
    spans: tuple[tuple[int, int], ...] | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The words that `spans` mark."""
        return tuple(self.text[start:end] for start, end in self.spans or ())


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


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a bundle says of one text.

    Attributes
    ----------
    text : str
        The text that was asked about.
    label : str or None
        Text classification: the likeliest class.
    score : float or None
        Text classification: its probability, a fraction.
    scores : dict of str to float
        Text classification: the probability of every class, in the bundle's order.
    entities : tuple of Entity
        Token classification: the spans found, in the text's order.
    words, tags : tuple of str
        Token classification: the words that the text was split into, and the tag of each.
    shortened : tuple of (start, end)
        Token classification: words with more pieces than the model takes at once, as characters
        of `text`. Of such a word only the beginning was read; everything else of a text always is.
    """

    text: str
    label: str | None = None
    score: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    entities: tuple[Entity, ...] = ()
    words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    shortened: tuple[tuple[int, int], ...] = ()

    def to_json(self) -> Json:
        """Give what the task answers as JSON: label and scores, or entities.

        ``shortened``, a list of [start, end], stands in it only where there is such a word.
        """
        if self.label is not None:
            scores = dict(self.scores)
            return {"text": self.text, "label": self.label, "score": self.score, "scores": scores}
        entities = [
            {"text": e.text, "label": e.label, "start": e.start, "end": e.end, "score": e.score}
            for e in self.entities
        ]
        document: Json = {"text": self.text, "entities": entities}
        if self.shortened:
            document["shortened"] = [list(span) for span in self.shortened]
        return document


def find_entities(
    text: str,
    spans: Sequence[tuple[int, int]],
    tags: Sequence[str],
    confidence: Sequence[float],
) -> tuple[Entity, ...]:
    """Join words' tags into entities, as the evaluation reads them (seqeval's default).

    ``B-X`` begins an entity of type X, ``I-X`` and ``E-X`` go on with one or else begin it, and
    behind ``E-X`` and ``S-X`` it has ended. Adjacent words with the same tag without such a prefix
    are one span.

    Parameters
    ----------
    text : str
    spans : sequence of (start, end)
        Each word's characters in `text`.
    tags, confidence : sequence of str, of float
        Each word's tag and its probability.
    """
    groups: list[tuple[str, list[int]]] = []
    open_kind = ""
    for index, tag in enumerate(tags):
        prefix, kind = _split_tag(tag)
        if kind and kind == open_kind and prefix in ("I", "E"):
            groups[-1][1].append(index)
        elif kind:
            groups.append((kind, [index]))
        open_kind = "" if prefix in ("E", "S") else kind
    found = []
    for kind, words in groups:
        start, end = spans[words[0]][0], spans[words[-1]][1]
        score = sum(confidence[word] for word in words) / len(words)
        found.append(Entity(text[start:end], kind, start, end, score))
    return tuple(found)


def _split_tag(tag: str) -> tuple[str, str]:
    prefix, dash, kind = tag.partition("-")
    if tag == "O":
        return "", ""
    return (prefix, kind) if dash and prefix in ("B", "I", "E", "S") else ("I", tag)
