"""Which languages a result was measured on, as far as its data says so.

A data file that is named by a three-letter code (``hau/test.txt``) is taken for that language, as
in MasakhaNER; two letters are not enough, as country codes look the same (``dz``). Labels are
languages where the data are CLDR's. What is not known so is not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgecompress.errors import MissingExtraError
from edgecompress.results import Row, RunResult

FILE, LABEL = "file:", "label:"


@dataclass(frozen=True, slots=True)
class Language:
    """A language: its ISO 639 code (two letters where it has such) and its English name."""

    code: str
    name: str


@dataclass(frozen=True, slots=True)
class Languages:
    """Languages by the name of the slice that measures each, and of which kind the slices are.

    `prefix` is ``file:`` or ``label:``; empty, as `by_slice`, where the languages are not known.
    """

    prefix: str = ""
    by_slice: Mapping[str, Language] | None = None

    @property
    def known(self) -> tuple[Language, ...]:
        """Every language once, by its name."""
        found = (self.by_slice or {}).values()
        return tuple(sorted(dict.fromkeys(found), key=lambda one: one.name))

    def name(self, slice_name: str, prefix: str) -> str:
        """Give the English name of a slice's language, with the slice's own; else only that."""
        found = (self.by_slice or {}).get(slice_name) if prefix == self.prefix else None
        return f"{found.name} ({slice_name})" if found else slice_name


def languages(result: RunResult, row: Row | None) -> Languages:
    """Work out the languages of `result` from the slices of `row`.

    Raises
    ------
    MissingExtraError
        When Babel, which knows the codes, is not installed.
    """
    data = result.recipe.get("data")
    of_cldr = isinstance(data, Mapping) and data.get("format") == "cldr"
    prefix = LABEL if of_cldr else FILE
    slices = (one.slice or "" for one in (row.measurements if row else ()))
    names = dict.fromkeys(one.removeprefix(prefix) for one in slices if one.startswith(prefix))
    pattern = "[a-z]{2,3}" if of_cldr else "[a-z]{3}"
    # All or nothing: one name that is no code says that the others are none either.
    if not names or not all(re.fullmatch(pattern, one) for one in names):
        return Languages()
    try:
        from babel import Locale
        from babel.core import get_global
    except ImportError:
        raise MissingExtraError("babel") from None
    english, current = Locale("en").languages, get_global("language_aliases")
    codes = {one: current.get(one, one) for one in names}
    if not all(code in english for code in codes.values()):
        return Languages()
    return Languages(prefix, {one: Language(code, english[code]) for one, code in codes.items()})
