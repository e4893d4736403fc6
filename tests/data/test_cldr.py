"""The embedded data: enough of each language, and nothing on both sides of a split."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from edgecompress.data import SPLITS, check_labels, data_config
from edgecompress.data.cldr import LOCALES, clean, split_of
from edgecompress.errors import DataError
from edgecompress.texts import label_of, text_of
from edgecompress.values import Example

DEFAULT = data_config({"format": "cldr"})


def all_splits() -> dict[str, tuple[Example, ...]]:
    return {split: DEFAULT.read(split) for split in SPLITS}


def test_about_twenty_locales_of_300_to_1200_strings() -> None:
    counts = Counter(label_of(e) for examples in all_splits().values() for e in examples)
    assert set(counts) == set(LOCALES)
    assert 18 <= len(counts) <= 22
    assert all(300 <= count <= 1200 for count in counts.values()), counts


def test_every_split_has_every_locale() -> None:
    for split, examples in all_splits().items():
        counts = Counter(label_of(e) for e in examples)
        assert set(counts) == set(LOCALES), split
        assert min(counts.values()) >= 50
    assert check_labels(DEFAULT) == tuple(sorted(LOCALES))


def test_no_string_is_in_two_locales_or_splits() -> None:
    texts = Counter(text_of(e).casefold() for examples in all_splits().values() for e in examples)
    assert max(texts.values()) == 1


def test_a_key_lies_in_one_split() -> None:
    counts = Counter(split_of(f"territories/{number}") for number in range(3000))
    assert counts["train"] / 3000 == pytest.approx(0.7, abs=0.03)
    assert counts["validation"] / 3000 == pytest.approx(0.15, abs=0.03)
    # These two are fixed: another split of the same data would make figures incomparable.
    assert split_of("territories/KE") == split_of("territories/KE") == "train"
    assert split_of("territories/NG") == "train"


def test_strings_are_real_and_clean() -> None:
    train = {(label_of(e), text_of(e)) for e in DEFAULT.read("train")}
    everything = {(label_of(e), text_of(e)) for split in SPLITS for e in DEFAULT.read(split)}
    assert train < everything
    assert ("sw", "Jumatatu") in everything
    assert ("fr", "lundi") in everything
    assert ("pt", "segunda-feira") in everything
    for _, text in everything:
        assert "{" not in text
        assert text == text.strip()
        assert not any(character.isnumeric() for character in text)
    assert {e.source for e in DEFAULT.read("train")} >= {"territories", "months", "currencies"}


def test_same_again_and_told_apart() -> None:
    assert DEFAULT.digest("test") == data_config({"format": "cldr"}).digest("test")
    assert DEFAULT.digest("test") != DEFAULT.digest("train")
    fewer = data_config({"format": "cldr", "max_strings": 300})
    assert fewer.digest("test") != DEFAULT.digest("test")
    some, everything = fewer.read("test"), DEFAULT.read("test")
    assert len(some) < len(everything) and all(example in everything for example in some)
    assert DEFAULT.files("test") == ()


def test_bad_choices_are_explained() -> None:
    with pytest.raises(DataError, match="Babel knows no CLDR locale 'xx'"):
        data_config({"format": "cldr", "locales": ["sw", "xx"]}).read("train")
    with pytest.raises(DataError, match=r"'rw' has \d+ strings of its own, fewer than"):
        data_config({"format": "cldr", "locales": ["sw", "rw"]}).read("train")
    with pytest.raises(ValidationError, match="named twice"):
        data_config({"format": "cldr", "locales": ["sw", "sw"]})
    with pytest.raises(ValidationError, match="at least 2"):
        data_config({"format": "cldr", "locales": ["sw"]})
    two = data_config({"format": "cldr", "locales": ["fr", "pt"], "max_strings": 1})
    with pytest.raises(DataError, match=r"split is empty; raise data\.max_strings"):
        for split in SPLITS:  # two strings cannot fill three splits
            two.read(split)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{0} kilomita kwa {1}", "kilomita kwa"),
        ("1900", ""),
        ("km²", ""),
        ("ab", ""),
        ("ከነ", "ከነ"),
        ("  saa \u00a0za ", "saa za"),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert clean(text) == expected
