"""Transfer sets: what is taken of a corpus, what is left out, and that it is the same twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import PEOPLE, PLACES, labelled_texts, tagged_examples, tiny_teacher
from pydantic import ValidationError

from edgecompress.errors import DataError
from edgecompress.processors import TextProcessor
from edgecompress.texts import label_of, tags_of, text_example, words_example, words_of
from edgecompress.training.augment import own_words
from edgecompress.training.transfer import Transfer, tokens_of, transfer_examples


@pytest.fixture(scope="module")
def preprocessor(tmp_path_factory: pytest.TempPathFactory) -> TextProcessor:
    made = tiny_teacher(
        tmp_path_factory.mktemp("teacher"), tagged_examples(60), "token-classification"
    )
    return TextProcessor.load(made.preprocessor)


def corpus(folder: Path, *lines: str) -> Path:
    file = folder / "extra.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_running_text_is_divided_into_words_as_the_training_data_is(tmp_path: Path):
    file = corpus(tmp_path, "Amina (Kano), jiya.", "leo")
    found = transfer_examples(Transfer(corpus=[file]), tagged_examples(5), seed=0)
    assert [words_of(one) for one in found] == [
        ("Amina", "(", "Kano", ")", ",", "jiya", "."),
        ("leo",),
    ]
    assert all(not tags_of(one) and not label_of(one) and one.source == "extra" for one in found)


def test_for_texts_it_stays_running_text(tmp_path: Path):
    file = corpus(tmp_path, "Amina  (Kano), jiya.")
    (found,) = transfer_examples(Transfer(corpus=[file]), labelled_texts(5), seed=0)
    assert found == text_example("Amina (Kano), jiya.", source="extra")


def test_words_of_a_corpus_are_joined_for_texts(tmp_path: Path):
    file = tmp_path / "ner.txt"
    file.write_text("Amina B-PER\njiya O\n", encoding="utf-8")
    transfer = Transfer(corpus=[{"file": file, "format": "conll"}])
    (found,) = transfer_examples(transfer, labelled_texts(5), seed=0)
    assert found == text_example(text="Amina jiya", source="ner")


def test_what_is_known_already_is_left_out(tmp_path: Path):
    train, held_out = tagged_examples(6), tagged_examples(6, seed=1)
    lines = [
        " ".join(words_of(train[0])),
        " ".join(words_of(held_out[0])),
        "sokoni leo",
        "sokoni  leo",
    ]
    found = transfer_examples(
        Transfer(corpus=[corpus(tmp_path, *lines)]), train, seed=0, held_out=held_out
    )
    assert [words_of(one) for one in found] == [("sokoni", "leo")]


def test_nothing_new_is_refused(tmp_path: Path):
    train = tagged_examples(6)
    file = corpus(tmp_path, " ".join(words_of(train[0])))
    with pytest.raises(DataError, match="corpus is left"):
        transfer_examples(Transfer(corpus=[file]), train, seed=0)
    with pytest.raises(DataError, match="corpus is left"):
        transfer_examples(Transfer(corpus="train"), train, seed=0)


def test_long_texts_are_divided_evenly_and_lose_nothing(tmp_path: Path):
    words = [f"w{index}" for index in range(25)]
    transfer = Transfer(corpus=[corpus(tmp_path, " ".join(words))], longest=10)
    found = transfer_examples(transfer, tagged_examples(3), seed=0)
    assert [len(words_of(one)) for one in found] == [9, 8, 8]
    assert [word for one in found for word in words_of(one)] == words


def test_at_most_so_many_are_drawn_by_the_seed(tmp_path: Path):
    transfer = Transfer(corpus=[corpus(tmp_path, *(f"w{n} leo" for n in range(50)))], most=7)
    first, again, other = (
        transfer_examples(transfer, tagged_examples(3), seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len(first) == len(other) == 7


def test_text_in_another_script_is_refused(tmp_path: Path, preprocessor: TextProcessor):
    file = corpus(tmp_path, "ሰላም ነው", "ዛሬ ገበያ", "sokoni leo")
    with pytest.raises(DataError, match=r"2 of 3 texts .* mostly unknown .*ሰላም"):
        transfer_examples(Transfer(corpus=[file]), tagged_examples(5), 0, preprocessor)


def test_a_few_unreadable_texts_are_left_out(tmp_path: Path, preprocessor: TextProcessor):
    file = corpus(tmp_path, "ሰላም ነው", "sokoni leo", "leo sokoni")
    found = transfer_examples(Transfer(corpus=[file]), tagged_examples(5), 0, preprocessor)
    assert [words_of(one) for one in found] == [("sokoni", "leo"), ("leo", "sokoni")]


def test_the_corpus_comes_first_and_copies_follow(tmp_path: Path):
    train = tagged_examples(10)
    transfer = Transfer(corpus=[corpus(tmp_path, "sokoni leo")], augment=2)
    found = transfer_examples(transfer, train, seed=0)
    assert words_of(found[0]) == ("sokoni", "leo")
    texts = [own_words(one) for one in (*train, *found)]
    assert len(found) > 10 and len(set(texts)) == len(set(map(words_of, train))) + len(found)
    assert found == transfer_examples(transfer, train, seed=0)


def test_swapped_mentions_are_of_the_same_type():
    train = tagged_examples(30)
    transfer = Transfer(augment=1, how={"mentions": 1, "replace": 0})
    found = transfer_examples(transfer, train, seed=0)
    kinds = {**dict.fromkeys(PEOPLE, "B-PER"), **dict.fromkeys(PLACES, "B-LOC")}
    shapes = {tuple(tags_of(one)) for one in train}
    assert found
    assert all(tuple(kinds.get(word, "O") for word in words_of(one)) in shapes for one in found)


def test_a_mention_comes_from_the_same_file_and_changes_its_length():
    first = words_example(words=("Amina", "leo"), tags=("B-PER", "O"), source="hau")
    second = words_example(
        words=("Bello", "Juma", "na"), tags=("B-PER", "I-PER", "O"), source="hau"
    )
    third = words_example(words=("Chidi", "dey"), tags=("B-PER", "O"), source="pcm")
    transfer = Transfer(augment=1, how={"mentions": 1, "replace": 0})
    found = transfer_examples(transfer, (first, second, third), seed=3)
    assert words_of(found[0]) == ("Bello", "Juma", "leo")
    assert words_of(found[1]) == ("Amina", "na")
    assert words_of(found[2]) in {("Amina", "dey"), ("Bello", "Juma", "dey")}  # pcm has no other


def test_mentions_give_way_to_names_of_other_text(tmp_path: Path):
    """Capitals that begin a sentence, or of words that are mostly written small, are no names."""
    first = "The mayor of New Haven, Ada Obi, met The Hague's envoy. However she left. Nobody came."
    file = corpus(tmp_path, first, "In the end the others went to Owerri", "all of it Of the past")
    transfer = {"corpus": [file], "augment": 9, "how": {"mentions": 1, "names": 1, "replace": 0}}
    found = transfer_examples(Transfer(**transfer), tagged_examples(30), seed=0)
    known = {word for one in tagged_examples(30) for word in words_of(one)}
    new = {word for one in found[3:] for word in words_of(one)} - known
    assert new == {"New", "Haven", "Ada", "Obi", "Hague's", "Owerri"}
    corpus(tmp_path, "nothing here is a name", "Nor here")
    with pytest.raises(DataError, match=r"transfer.how.names takes names of transfer.corpus"):
        transfer_examples(Transfer(**transfer), tagged_examples(5), seed=0)


def test_mentions_are_made_up_of_parts_of_known_ones():
    train = tagged_examples(30)
    how = {"mentions": 1, "invent": 1, "replace": 0}
    found = transfer_examples(Transfer(augment=9, how=how), train, seed=0)
    assert found == transfer_examples(Transfer(augment=9, how=how), train, seed=0)
    known = {word for one in train for word in words_of(one)}
    names = [name for name in (*PEOPLE, *PLACES) if name in known]
    made = {word for one in found for word in words_of(one)} - known
    assert len(made) > len(names)
    for word in made:
        parts = [(word[:cut], word[cut:]) for cut in range(2, len(word) - 1)]
        assert any(
            any(name.startswith(begins) for name in names)
            and any(name.lower().endswith(ends) for name in names)
            for begins, ends in parts
        )


@pytest.mark.parametrize("field", ["names", "invent"])
def test_new_names_need_mentions_that_are_swapped(field: str):
    how = {"mentions": 0, field: 0.5}
    with pytest.raises(DataError, match=rf"transfer\.how\.{field} is a share of the mentions"):
        transfer_examples(Transfer(augment=1, how=how), tagged_examples(5), seed=0)


def test_words_are_replaced_as_often_as_they_occur():
    words = ("na",) * 90 + ("leo",) * 10
    train = (words_example(words=words, tags=("O",) * 100, source="hau"),) * 1
    found = transfer_examples(Transfer(augment=40, how={"replace": 1}), train, seed=0)
    drawn = [word for one in found for word in words_of(one)]
    assert len(drawn) == 4000
    assert drawn.count("leo") / len(drawn) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("field", ["mask", "drop"])
def test_words_are_masked_or_dropped(field: str, preprocessor: TextProcessor):
    train = labelled_texts(40)
    transfer = Transfer(augment=1, how={"replace": 0, field: 0.5})
    found = transfer_examples(transfer, train, 0, preprocessor)
    before = np.mean([len(own_words(one)) for one in train])
    after = np.mean([len(own_words(one)) for one in found])
    masked = np.mean([word == "[MASK]" for one in found for word in own_words(one)])
    if field == "mask":
        assert after == pytest.approx(before, rel=0.1) and masked == pytest.approx(0.5, abs=0.1)
        (ids,) = preprocessor.encode_text(["leo [MASK]"])
        assert ids[-1] == preprocessor.tokenizer.token_to_id("[MASK]")
    else:
        assert after < 0.7 * before and masked == 0


def test_ngrams_are_neighbours_of_the_original():
    train = tagged_examples(30)
    how = {"mentions": 0, "replace": 0, "ngrams": 1, "ngram_words": 3}
    found = transfer_examples(Transfer(augment=1, how=how), train, seed=0)
    texts = [" ".join(words_of(one)) for one in train]
    assert {len(words_of(one)) for one in found} == {1, 2, 3}
    assert all(any(" ".join(words_of(one)) in text for text in texts) for one in found)


def test_case_is_changed_only_where_the_tokenizer_sees_it(
    tmp_path: Path, preprocessor: TextProcessor
):
    train = tagged_examples(20)
    transfer = Transfer(augment=1, how={"mentions": 0, "replace": 0, "recase": 1, "ngrams": 0.01})
    found = transfer_examples(transfer, train, 0, preprocessor)
    assert len(found) > 10
    small = {tuple(word.lower() for word in words_of(one)) for one in train}
    assert all(tuple(word.lower() for word in words_of(one)) in small for one in found)
    folded = tiny_teacher(tmp_path, train, "token-classification", lowercase=True)
    assert not tokens_of(TextProcessor.load(folded.preprocessor)).cased
    none = transfer_examples(transfer, train, 0, TextProcessor.load(folded.preprocessor))
    assert len(none) < 3


def test_data_without_entities_is_said():
    train = tuple(words_example(words=("na", "leo"), tags=("O", "O")) for _ in range(3))
    with pytest.raises(DataError, match="training examples have none"):
        transfer_examples(Transfer(augment=1, how={"mentions": 0.5}), train, seed=0)
    with pytest.raises(DataError, match="changes anything"):
        transfer_examples(Transfer(augment=1, how={"replace": 0}), train, seed=0)


def test_a_mask_needs_a_token_for_it():
    with pytest.raises(DataError, match="no mask token"):
        transfer_examples(Transfer(augment=1, how={"mask": 0.1}), labelled_texts(3), seed=0)


def test_shares_of_the_same_words_are_at_most_all_of_them():
    with pytest.raises(ValidationError, match="at most 1"):
        Transfer(how={"replace": 0.6, "drop": 0.5})


def test_identity_knows_what_the_corpus_holds_and_not_where(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = corpus(tmp_path / "a", "leo"), corpus(tmp_path / "b", "leo")
    one, two = Transfer(corpus=[first]), Transfer(corpus=[second])
    assert one.identity() == two.identity()
    corpus(tmp_path / "b", "jiya")
    assert one.identity() != two.identity()
    second.unlink()
    with pytest.raises(DataError, match="missing"):
        two.check()
