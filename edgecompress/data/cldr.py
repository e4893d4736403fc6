"""Language identification of short text, made from the CLDR data that Babel carries.

CLDR names territories, languages, scripts, currencies, units, time zones, months and days in each
locale's own language; a string is the text, the locale its label. Nothing is fetched: the default
recipe learns from this. CLDR data is under the Unicode License v3, Babel under BSD-3-Clause.

The locales are African languages with enough data of their own, and English, French, Portuguese and
Arabic, which are in use beside them. What makes the figures honest: a string that two locales share
is dropped from both, and the split goes by CLDR key (``territories/KE``), so that the same name in
another language, or another form of it in the same, is never on both sides.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from edgecompress.data.base import DataConfig, Split
from edgecompress.errors import DataError, MissingExtraError
from edgecompress.texts import label_of, text_example, text_of
from edgecompress.values import Example, json_digest
from edgecompress.words import shortened

LOCALES = (
    *("af", "ak", "am", "ee", "ha", "ig", "kab", "ln", "om", "pcm"),
    *("so", "sw", "ti", "wo", "xh", "yo", "zu", "ar", "en", "fr", "pt"),
)
SHARES: dict[Split, int] = {"train": 70, "validation": 15, "test": 15}  # per cent of the keys

MIN_LETTERS = 3  # shorter strings are abbreviations, much alike everywhere

# Where in a locale's data the strings stand; each item's own key is the next level.
KINDS = {
    "territories": ("territories",),
    "languages": ("languages",),
    "scripts": ("scripts",),
    "variants": ("variants",),
    "currencies": ("currency_names", "currency_names_plural"),
    "units": ("unit_display_names", "unit_patterns"),
    "zones": ("meta_zones", "time_zones"),
    "fields": ("date_fields",),
    "months": ("months/format/wide", "months/stand-alone/wide"),
    "days": ("days/format/wide", "days/stand-alone/wide"),
    "day_periods": ("day_periods/format/wide", "day_periods/stand-alone/wide"),
    "quarters": ("quarters/format/wide", "quarters/stand-alone/wide"),
    "eras": ("eras/wide",),
}
SHORT_FORMS = frozenset({"short", "narrow", "abbreviated"})


class CldrData(DataConfig):
    """Strings of several locales, labelled with the locale."""

    licence: ClassVar[str] = "Unicode-3.0"

    format: Literal["cldr"] = "cldr"
    locales: tuple[str, ...] = Field(default=LOCALES, min_length=2)
    """CLDR locale codes; each needs `min_strings` strings of its own."""
    max_strings: int = Field(default=1200, ge=1)
    """Most strings a locale gives, over all splits; keys are left out by their hash."""
    min_strings: int = Field(default=300, ge=1)
    """Fewest strings that a locale must have after cleaning."""

    @field_validator("locales")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a locale is named twice")
        return value

    def read(self, split: Split) -> tuple[Example, ...]:
        """Give the strings of a split, ordered by locale and key; `source` is the kind of key.

        Raises
        ------
        DataError
            When Babel has no such locale, or too few strings of its own for it.
        MissingExtraError
            When Babel is not installed.
        """
        table = _table(self.locales)
        result = []
        for locale in self.locales:
            strings = table[locale]
            if len(strings) < self.min_strings:
                raise DataError(
                    f"CLDR locale {locale!r} has {len(strings)} strings of its own, fewer than "
                    f"min_strings {self.min_strings}; leave it out of data.locales"
                )
            chosen = sorted(strings, key=lambda item: (_hash(item[0]), item))[: self.max_strings]
            for key, text in sorted(chosen):
                if split_of(key) == split:
                    result.append(
                        text_example(text=text, label=locale, source=key.partition("/")[0])
                    )
        if not result:
            raise DataError(f"the {split} split is empty; raise data.max_strings")
        return tuple(result)

    def files(self, split: Split) -> tuple[Path, ...]:  # noqa: ARG002 - made, not read
        """Give no file: the strings come with Babel."""
        return ()

    def digest(self, split: Split) -> str:
        """SHA-256 over the examples, so that another Babel with other strings is seen."""
        rows = [
            [text_of(example), label_of(example), example.source] for example in self.read(split)
        ]
        return json_digest(rows)


def split_of(key: str) -> Split:
    """Say which split a CLDR key belongs to, by its hash: the same in every locale."""
    place = _hash(key) % 100
    for split, share in SHARES.items():
        if place < share:
            return split
        place -= share
    raise AssertionError("the shares add up to 100")


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


@functools.lru_cache(maxsize=8)
def _table(locales: tuple[str, ...]) -> Mapping[str, tuple[tuple[str, str], ...]]:
    """(key, text) pairs of each locale; no text occurs in two locales or twice in one."""
    try:
        from babel import localedata
    except ImportError:
        raise MissingExtraError("babel") from None
    own: dict[str, dict[str, tuple[str, str]]] = {}
    for locale in locales:
        # Its own `exists` takes what a file system that does not tell cases apart would find.
        if locale not in localedata.locale_identifiers():
            named = shortened(locale, 40)
            raise DataError(f"Babel knows no CLDR locale {named!r}; check data.locales")
        # What a locale inherits is another language's text, or only a code.
        data = localedata.load(locale, merge_inherited=False)
        texts: dict[str, tuple[str, str]] = {}
        for key, text in sorted(_strings(data)):
            texts.setdefault(text.casefold(), (key, text))
        own[locale] = texts
    owners: dict[str, int] = {}
    for texts in own.values():
        for text in texts:
            owners[text] = owners.get(text, 0) + 1
    return {
        locale: tuple(pair for text, pair in texts.items() if owners[text] == 1)
        for locale, texts in own.items()
    }


def _strings(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for kind, places in KINDS.items():
        for place in places:
            branch: Any = data
            for part in place.split("/"):
                branch = branch.get(part) if isinstance(branch, Mapping) else None
            if isinstance(branch, Mapping):
                for name, value in branch.items():
                    for leaf in _leaves(value):
                        text = clean(leaf)
                        if text:
                            yield f"{kind}/{name}", text


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in SHORT_FORMS:
                yield from _leaves(inner)


def clean(text: str) -> str:
    """Drop placeholders and surplus blanks; the empty string where too little is left.

    Strings with digits are dropped as well: a year or a number tells no language.
    """
    text = unicodedata.normalize("NFC", re.sub(r"\{\d\}", " ", text))
    text = " ".join(text.split()).strip(" .,;:-–/·")
    if any(character.isnumeric() for character in text):
        return ""
    letters = sum(character.isalpha() for character in text)
    # A syllable of Ethiopic script says as much as two Latin letters.
    wide = sum(unicodedata.name(character, "").startswith("ETHIOPIC") for character in text)
    return text if letters + wide >= MIN_LETTERS else ""
