"""A stranger's words in a sentence of ours: not too long, and without power over a terminal.

Names, labels and paths come from files that nobody has checked. Written to a terminal as they are,
they could colour, erase or forge what a person reads (``ESC ]``, a carriage return, the Unicode
marks that turn a line's direction).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of characters that do something, or stand for none that is known."""
_JOINERS = "\u200c\u200d"
"""Joiners of Persian, Indic scripts and emoji: they only shape their neighbours."""


def printable(text: str, keep: str = "") -> str:
    r"""Give a text that can be written to a terminal: other characters become ``\x1b``, ``\u202e``.

    Parameters
    ----------
    text : str
    keep : str
        Characters that may stay, such as line feeds.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        sign
        if sign in keep or sign in _JOINERS or unicodedata.category(sign) not in _UNSEEN
        else sign.encode("unicode_escape", "surrogatepass").decode("ascii")
        for sign in text
    )


def shortened(text: str, most: int) -> str:
    """Give a text of at most `most` characters; of a longer one begin and end remain."""
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[head + 1 - most :]}"


LISTED = 8
"""Names that a sentence lists; how many more there are is said."""


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """Join names as a sentence does: ``a, b and c``; of many the first, and how many more."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
