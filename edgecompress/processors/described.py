"""What files and recipes that describe images and sounds have in common."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from edgecompress.errors import DataError
from edgecompress.words import meant, shortened


def check_keys(said: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse a key that nobody reads.

    Raises
    ------
    DataError
        With the key that may be meant.
    """
    for key in said:
        if key not in known:
            shown = shortened(str(key), 60)
            raise DataError(f"there is no key {shown!r}{meant(str(key), known)}")


def type_named(
    given: Mapping[str, Any], keys: tuple[str, ...], ending: str, known: Collection[str]
) -> str | None:
    """Give the beginning of the class of transformers' that a file names, if it names one.

    Parameters
    ----------
    given : mapping
    keys : tuple of str
        Where it stands, the usual one first.
    ending : str
        How its name ends; ``Fast``, ``Pil`` and older endings are left out as well.
    known : collection of str

    Raises
    ------
    DataError
        When it is none of the known ones.
    """
    named = next((given[key] for key in keys if given.get(key)), None)
    if named is None:
        return None
    short = re.sub(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", str(named))
    if short not in known:
        shown = ", ".join(f"{name}{ending}" for name in known)
        raise DataError(
            f"{keys[0]} {shortened(str(named), 60)!r} is not known here; known are "
            f"{shown}, or take the key out and say all that it does"
        )
    return short
