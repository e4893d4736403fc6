"""Spans of tagged words: as they are scored, and as a person is told of them.

The two differ only where tags have no prefix of B, I, E or S, of which scoring reads the first
letter as one, all the same.
"""

from __future__ import annotations

from collections.abc import Sequence


def tagged_spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Join words' tags into spans (type, first word, last word), as seqeval does by default.

    ``B-X`` begins a span of type X, ``I-X`` and ``E-X`` go on with one or else begin it, and
    behind ``E-X`` and ``S-X`` it has ended. Adjacent words with the same tag without such a prefix
    are one span.
    """
    found: list[tuple[str, int, int]] = []
    open_kind = ""
    for index, tag in enumerate(tags):
        prefix, kind = _split_tag(tag)
        if kind and kind == open_kind and prefix in ("I", "E"):
            found[-1] = (kind, found[-1][1], index)
        elif kind:
            found.append((kind, index, index))
        open_kind = "" if prefix in ("E", "S") else kind
    return found


def _split_tag(tag: str) -> tuple[str, str]:
    prefix, dash, kind = tag.partition("-")
    if tag == "O":
        return "", ""
    return (prefix, kind) if dash and prefix in ("B", "I", "E", "S") else ("I", tag)


def scored_spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Join words' tags into spans (type, first word, last word) as conlleval and seqeval do.

    A tag is a letter and, behind a dash, a type. ``B`` and ``S`` begin a span, and so does whatever
    has another type than the word before; ``E`` and ``S`` end one; an ``I`` that does not go on
    begins one. Source: the default of seqeval's ``get_entities``, which tests compare it with.
    """
    found: list[tuple[str, int, int]] = []
    before, kind_before, first = "O", "", 0
    for index, tag in enumerate((*tags, "O")):
        letter, kind = tag[:1], tag[1:].split("-", 1)[-1] or "_"
        other = kind != kind_before
        if before in ("E", "S") or (
            before not in ("O", ".") and (other or (before in "BI" and letter in ("B", "S", "O")))
        ):
            found.append((kind_before, first, index - 1))
        if letter in ("B", "S") or (
            letter not in ("O", ".") and (other or (letter in "EI" and before in ("E", "S", "O")))
        ):
            first = index
        before, kind_before = letter, kind
    return found
