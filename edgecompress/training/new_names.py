"""Names that the training examples do not hold: those of other text, and made-up ones.

A small student knows the names of its training text by heart and finds others worse than its
teacher does. Copies with new names, answered by the teacher, show it more of them.

Source of the idea that names are learnt by heart: Lin et al., 2020, "A Rigorous Study on Named
Entity Recognition: Can Fine-tuning Pretrained Model Lead to the Promised Land?".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

LONGEST = 4
"""Words of a name, at most."""
ENDS = frozenset(".!?:\"'“”‘’«»()[]-–—")
"""A word behind one of these has its capital from its place."""
LEAST = 2
"""Letters that each part of a made-up word has, at least."""


def names_in(texts: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Find the names in texts: runs of capitalised words that do not begin a sentence.

    A word that is written small more often than with a capital belongs to none.

    Returns
    -------
    tuple of tuple of str
        Distinct, in the order of first sight; empty for texts without capitals.

    >>> names_in([("He", "met", "Ada", "Obi", "."), ("The", "end", ",", "said", "Obi", ".")])
    (('Ada', 'Obi'), ('Obi',))
    """
    counts = Counter(word for words in texts for word in words)
    found: dict[tuple[str, ...], None] = {}
    for words in texts:
        for name in _runs(words, counts):
            if len(name) <= LONGEST and any(len(word) > 1 for word in name):
                found[name] = None
    return tuple(found)


def _runs(words: tuple[str, ...], counts: Counter[str]) -> Iterator[tuple[str, ...]]:
    run: list[str] = []
    for before, word in zip((".", *words), (*words, "."), strict=True):
        begins = not run and before[-1:] in ENDS
        if word[:1].isupper() and not begins and counts[word.lower()] < counts[word]:
            run.append(word)
        elif run:
            yield tuple(run)
            run = []


def made_up(word: str, others: Sequence[str], random: np.random.Generator) -> str:
    """Put the beginning of a word before the end of another, drawn one.

    Words without `LEAST` letters for each part stay as they are.

    Parameters
    ----------
    word : str
    others : sequence of str
    random : numpy.random.Generator
    """
    other = others[int(random.integers(len(others)))]
    if min(len(word), len(other)) < 2 * LEAST:
        return word
    first = int(random.integers(LEAST, len(word) - LEAST + 1))
    last = int(random.integers(LEAST, len(other) - LEAST + 1))
    return word[:first] + other[-last:].lower()
