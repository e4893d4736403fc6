"""Words in a sentence of ours: a stranger's, without power over a terminal; names that were meant.

Names, labels and paths come from files that nobody has checked. Written to a terminal as they are,
they could colour, erase or forge what a person reads (``ESC ]``, a carriage return, the Unicode
marks that turn a line's direction).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set

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


MEANT = 3
"""Names that are offered for one that is like them."""
OF_A_KIND = 12
"""Names that are offered where what was written is a part of them all."""
LONGEST_NAME = 200
"""Characters of a name that are compared."""
MANY = 200
"""Of more names only the whole ones are compared: layers of a graph have thousands."""
KNOWN = 40
"""Names that are listed where nothing is near; of more, `listed` gives the first."""


def nearest(
    word: str, known: Iterable[str], also_called: Mapping[str, Iterable[str]] | None = None
) -> list[str]:
    """Find the names that somebody may have meant who wrote `word`.

    Parameters
    ----------
    word : str
        What was written.
    known : iterable of str
        The right names.
    also_called : mapping of str to iterable of str, optional
        By a right name: what others call the same thing (``ner``). It is found as the name is.

    Returns
    -------
    list of str
        From the first of these that gives any: the same letters (``Masked_LM``); a part of the
        name, or what it is also called (``static``, ``ner``); nearly the same letters
        (``quantise.static``); the name with more around it (``f1_score``); its beginning
        (``acc``); the letters that are most alike (``dinamic``).
    """
    wrong = _letters(word)
    parts = {name: [one for one in re.split(r"[\W_]+", name) if one] for name in known}
    names = sorted(parts, key=lambda name: (len(parts[name]), name))
    if not wrong:
        return []
    others = also_called or {}
    called = {
        name: {_letters(one) for one in (*parts[name], *others.get(name, ()))} for name in names
    }
    whole = {name: _letters(name) for name in names}
    written = {_letters(one) for one in re.split(r"[\W_]+", word)}
    start = wrong if len(wrong) >= 3 else "\0"  # less begins half of all names
    spelled = {name: _alike(wrong, (letters,)) for name, letters in whole.items()}
    slip = max(_SLIP, max(spelled.values(), default=0.0) - 0.05)
    for fits in (
        lambda name: whole[name] == wrong,
        lambda name: wrong in called[name],
        lambda name: spelled[name] >= slip,
        lambda name: whole[name] in written,
        lambda name: any(one.startswith(start) for one in (whole[name], *called[name])),
    ):
        if found := [name for name in names if fits(name)]:
            return found[:OF_A_KIND]
    parted = names if len(names) <= MANY else ()
    alike = spelled | {name: _alike(wrong, {whole[name], *called[name]}) for name in parted}
    best = max(alike.values(), default=0.0)
    near = [name for name in names if alike[name] >= max(_ALIKE, best - 0.05)]
    return sorted(near, key=lambda name: -alike[name])[:MEANT]


def did_you_mean(
    word: str, known: Iterable[str], also_called: Mapping[str, Iterable[str]] | None = None
) -> str:
    """Say «; did you mean 'x'?», or nothing; the end of a sentence."""
    return asked_whether(nearest(word, known, also_called))


def asked_whether(names: Sequence[str]) -> str:
    """Say «; did you mean 'x' or 'y'?» of names that are near; nothing where there is none."""
    if not names:
        return ""
    *most, last = map(repr, names)
    return f"; did you mean {' or '.join(filter(None, (', '.join(most), last)))}?"


def meant(
    word: str, known: Iterable[str], also_called: Mapping[str, Iterable[str]] | None = None
) -> str:
    """Say «; did you mean 'x'?», or list what is known; the end of a sentence."""
    names = sorted(known) if isinstance(known, Set) else list(known)
    if said := did_you_mean(word, names, also_called):
        return said
    if len(names) > KNOWN:
        return f"; there are {listed(names)}"
    return f"; there are {', '.join(names)}" if names else ""


_ALIKE = 0.6
"""Share of letters in common from which names are alike; `difflib` takes the same."""
_SLIP = 0.85
"""… from which one is the other with a slip of the hand, whatever else its parts are."""


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name[:LONGEST_NAME].casefold())


def _alike(wrong: str, names: Iterable[str]) -> float:
    """Give how alike the most similar of `names` is, from 0 to 1; less than `_ALIKE` is 0."""
    from difflib import SequenceMatcher

    matcher, best = SequenceMatcher(b=wrong, autojunk=False), 0.0
    for name in names:
        matcher.set_seq1(name)
        least = max(_ALIKE, best)
        if matcher.real_quick_ratio() >= least and matcher.quick_ratio() >= least:
            found = matcher.ratio()
            best = found if found >= least else best
    return best
