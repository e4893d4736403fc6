"""Which pieces stay: what must, then what a corpus uses, then what the original put first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgecompress.errors import StageError
from edgecompress.surgery.vocabulary.pieces import PLACEHOLDER, Vocabulary, ancestors


@dataclass(frozen=True, slots=True)
class PieceChoice:
    """The pieces that stay, by why they were taken.

    Attributes
    ----------
    needed : frozenset of str
        What any text needs.
    used : frozenset of str
        What the corpus uses, beyond these.
    filled : frozenset of str
        What fills the places that were left.
    """

    needed: frozenset[str]
    used: frozenset[str]
    filled: frozenset[str]

    @property
    def kept(self) -> frozenset[str]:
        """All of them."""
        return self.needed | self.used | self.filled


def choose(
    vocabulary: Vocabulary,
    counts: Sequence[Mapping[str, int]],
    needed: set[str],
    *,
    keep: int | None = None,
    coverage: float | None = None,
    min_count: int = 1,
    merges: bool = True,
) -> PieceChoice:
    """Choose the pieces to keep.

    Parameters
    ----------
    vocabulary : Vocabulary
    counts : sequence of mapping of str to int
        How often each part of the corpus gives each piece. Pieces of an earlier part go before
        those of a later one; within a part the frequent go first.
    needed : set of str
        What must stay, with what it is merged from.
    keep : int, optional
        How many pieces to keep. Places that the corpus does not need go to the pieces with the
        lowest ids, or the best scores: the order in which the vocabulary was made.
    coverage : float, optional
        Keep the fewest pieces that make up this share of all pieces that the corpus gives.
    min_count : int
        Leave out what the corpus gives less often.
    merges : bool
        Keep what a kept BPE piece is merged from, too.

    Raises
    ------
    StageError
        When `keep` is less than what any text needs.
    """
    if keep is not None and keep < len(needed):
        raise StageError(
            f"keep is {keep}, but {len(needed)} pieces are needed so that any text can be split; "
            "give a larger number, or limit the characters with `alphabet: scripts` or `corpus`"
        )
    between = ancestors(vocabulary) if merges else _nothing
    kept = set(needed)
    used: set[str] = set()
    filled: set[str] = set()
    total = sum(sum(part.values()) for part in counts)
    whole = _pooled(counts)
    covered = sum(whole.get(piece, 0) for piece in kept)
    room = vocabulary.places if keep is None else keep
    for piece in _by_use(vocabulary, counts, min_count):
        if len(kept) >= room or (coverage is not None and covered >= coverage * total):
            break
        covered += _take(piece, between(piece), kept, used, room, whole)
    if keep is not None:
        for piece in _by_origin(vocabulary):
            if len(kept) >= room:
                break
            _take(piece, between(piece), kept, filled, room, whole)
    return PieceChoice(frozenset(needed), frozenset(used), frozenset(filled))


def _nothing(_: str) -> frozenset[str]:
    return frozenset()


def _take(
    piece: str,
    between: frozenset[str],
    kept: set[str],
    group: set[str],
    room: int,
    whole: Mapping[str, int],
) -> int:
    """Add a piece with all that it is merged from, if there is room; give what that covers."""
    wanted = {piece, *between} - kept
    if len(kept) + len(wanted) > room:
        return 0
    kept |= wanted
    group |= wanted
    return sum(whole.get(one, 0) for one in wanted)


def _pooled(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    pooled: dict[str, int] = {}
    for part in counts:
        for piece, count in part.items():
            pooled[piece] = pooled.get(piece, 0) + count
    return pooled


def _by_use(
    vocabulary: Vocabulary, counts: Sequence[Mapping[str, int]], min_count: int
) -> Iterator[str]:
    """Give the pieces that a corpus uses often enough, most wanted first."""
    whole = _pooled(counts)
    numbers = {**vocabulary.ids, **vocabulary.added}
    for part in counts:
        found = [piece for piece, count in part.items() if count and whole[piece] >= min_count]
        yield from sorted(found, key=lambda piece: (-part[piece], numbers[piece]))


def _by_origin(vocabulary: Vocabulary) -> Iterator[str]:
    """Give all pieces in the order in which the vocabulary was made, free places left out."""
    ordered = sorted(
        vocabulary.ids,
        key=lambda piece: (-vocabulary.scores.get(piece, 0.0), vocabulary.ids[piece]),
    )
    for piece in ordered:
        if not PLACEHOLDER.fullmatch(piece):
            yield piece
