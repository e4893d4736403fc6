"""Texts that stand in two splits: what was learned by heart proves nothing when it is asked.

Two texts are *exactly* equal when every character is, and equal *after normalising* when they are
the same in Unicode's NFKC with case folded and all blanks and punctuation left out, so that how a
text was divided into words makes no difference. Signs that are no punctuation (emoji, ``+``, ``€``)
stay; a text of nothing but blanks and punctuation is compared as it is. Labels are not compared: a
text that was seen is known, whatever it was called.

Text without labels tells of a test in another way: an article that a test sentence was taken from
names the same people in its other sentences. Such documents are found by six words in a row that
they share with the test, case and punctuation aside; sentences that people write alike share some
as well, so that this is said and nothing is refused for it.

Digests are kept, not texts: 32 bytes for each different text of a split.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edgecompress.data.base import Split
from edgecompress.errors import DataError
from edgecompress.examples import content
from edgecompress.values import Example

MOSTLY = 0.5
"""Share of the test's texts beyond which a figure on it says more of memory than of learning."""

RUN = 6
"""Words in a row by which two texts are taken to be of one document."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many examples of the split `of` have a text that stands in the split `within`, too.

    `exact` and `normalised` count examples of `of`, duplicates and all, out of `examples`; whatever
    is exactly equal is equal after normalising as well.
    """

    of: str
    within: str
    exact: int
    normalised: int
    examples: int

    @property
    def words(self) -> str:
        """Say it in one line."""
        if not self.normalised:
            return f"no example of {self.of} stands in {self.within}"
        share = f" ({self.normalised / self.examples:.1%})"
        more = f", {self.exact:,} of them letter for letter" if self.exact < self.normalised else ""
        return (
            f"{self.normalised:,} of {self.examples:,} examples of {self.of}{share} stand in "
            f"{self.within}, too{more}"
        )


@dataclass(frozen=True, slots=True)
class Quoted:
    """How many examples of the split `of` share `RUN` words in a row with a text of a corpus.

    `examples` counts those of `of` that have so many words, `shared` those of them that share some,
    and `corpora` says it for each file; an example that two files share counts in both.
    """

    of: str
    shared: int
    examples: int
    corpora: Mapping[str, int] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """Say it in one line."""
        if not self.shared:
            return f"no example of {self.of} shares {RUN} words in a row with a corpus"
        files = ", ".join(f"{name} {count:,}" for name, count in self.corpora.items())
        return (
            f"{self.shared:,} of {self.examples:,} examples of {self.of} "
            f"({self.shared / self.examples:.1%}) share {RUN} words in a row with a corpus "
            f"({files}): documents that it was taken from flatter its figures; leave them out whole"
        )


def quoted(
    splits: Mapping[Split, Sequence[Example]], corpus: Iterable[Example]
) -> tuple[Quoted, ...]:
    """Look for the texts of `corpus` that validation and test were perhaps taken from.

    Parameters
    ----------
    splits : mapping
        Examples by split. Train is not looked at, nor a split without a text of six words.
    corpus : iterable of Example
        Texts without labels, each with the `source` that tells its file. Of them only what stands
        in validation or test is kept.
    """
    judged = {of: splits[of] for of in ("validation", "test") if splits.get(of)}
    texts = iter(corpus if judged else ())
    first = next(texts, None)  # without a corpus nothing of the splits is read
    if first is None:
        return ()
    runs = {of: [set(word_runs(content(one))) for one in judged[of]] for of in judged}
    asked = set().union(*itertools.chain.from_iterable(runs.values()))
    read: dict[str, set[int]] = {}
    for example in itertools.chain([first], texts) if asked else ():
        read.setdefault(example.source or "corpus", set()).update(
            asked.intersection(word_runs(content(example)))
        )
    found = []
    for of, each in runs.items():
        sharing = [[name for name in read if not one.isdisjoint(read[name])] for one in each]
        if examples := sum(map(bool, each)):
            counts = Counter(itertools.chain.from_iterable(sharing))
            found.append(Quoted(of, sum(map(bool, sharing)), examples, dict(counts.most_common())))
    return tuple(found)


def word_runs(text: str) -> Iterator[int]:
    """Give a number for all `RUN` words in a row of a text; the same words give the same one."""
    words = re.findall(r"\w+", text.casefold())
    return (hash(tuple(words[start : start + RUN])) for start in range(len(words) - RUN + 1))


def overlaps(splits: Mapping[Split, Sequence[Example]]) -> tuple[Overlap, ...]:
    """Compare every two splits: each with those before it (validation with train, test with both).

    Parameters
    ----------
    splits : mapping
        Examples by split, train first; an empty split is left out.
    """
    keys = {name: _keys(examples) for name, examples in splits.items() if examples}
    found = []
    for within, of in itertools.combinations(keys, 2):
        exact, normalised = ({*column} for column in keys[within])
        found.append(
            Overlap(
                of,
                within,
                sum(key in exact for key in keys[of][0]),
                sum(key in normalised for key in keys[of][1]),
                len(keys[of][0]),
            )
        )
    return tuple(found)


def check_overlaps(found: Sequence[Overlap]) -> None:
    """Refuse a test that mostly stands in train or in validation.

    Raises
    ------
    DataError
        Saying how much of it does, and how to insist.
    """
    for one in found:
        if one.of == "test" and one.normalised > MOSTLY * one.examples:
            raise DataError(
                f"{one.words}: figures on it would say what the model remembers, not what it can; "
                "name another test, or insist with `data.seen_test: accept`"
            )


def _keys(examples: Sequence[Example]) -> tuple[list[bytes], list[bytes]]:
    """Digest every example's text as it is, and normalised."""
    texts = [content(example) for example in examples]
    return [_digest(text) for text in texts], [_digest(normalised(text)) for text in texts]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def normalised(text: str) -> str:
    """Give `text` without what two copies of it may differ in; see the module."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return folded.translate(_LEFT_OUT) or text


class _LeftOut(dict[int, int | None]):
    """Maps characters as `str.translate` asks: blanks, punctuation and invisible ones to nothing.

    Filled as characters are met: of Unicode's million a language uses some hundreds.
    """

    def __missing__(self, code: int) -> int | None:
        kind = unicodedata.category(chr(code))
        self[code] = None if kind[0] in "PZ" or kind in ("Cc", "Cf") else code
        return self[code]


_LEFT_OUT = _LeftOut()
