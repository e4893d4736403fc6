"""A checkpoint's tokenizer.json is read as it is, whatever class transformers would make of it."""

import json

import pytest
from tokenizers import Tokenizer
from trained_tokenizers import KINDS, texts, write

from edgecompress.training.teacher_tokenizer import read_tokenizer

TEXTS = [*texts(30, 5), "Amina WENT to Àbújá, don't — naïve  Ọjà"]
FOLDED = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]}
CHANGES = {"as it is": {}, "normalizer": {"normalizer": FOLDED}}


@pytest.mark.parametrize("kind", KINDS)
def test_it_makes_the_pieces_that_its_file_makes(kind, tmp_path):
    """Beside models that have other tokenizers as a rule, with a class named and with none."""
    folder = write(kind, tmp_path / "checkpoint")
    file, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    document, named = json.loads(file.read_text()), json.loads(settings.read_text())
    plain = {key: value for key, value in named.items() if key != "tokenizer_class"}
    for change in CHANGES.values():
        file.write_text(json.dumps({**document, **change}))
        stored = Tokenizer.from_file(str(file))
        expected = [stored.encode(text).ids for text in TEXTS]
        for model_type in ("bert", "xlm-roberta", "modernbert"):
            (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
            for config in (named, plain):
                settings.write_text(json.dumps(config))
                found = read_tokenizer(folder).backend_tokenizer
                assert [found.encode(text).ids for text in TEXTS] == expected


def test_settings_beside_it_count(tmp_path):
    """Letters' case is what tokenizer_config.json says, as transformers has always had it."""
    folder = write("wordpiece", tmp_path / "checkpoint")
    settings = folder / "tokenizer_config.json"
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    for folds in (True, False):
        named = json.loads(settings.read_text()) | {"do_lower_case": folds}
        settings.write_text(json.dumps(named))
        found = read_tokenizer(folder)
        assert found.backend_tokenizer.normalizer.normalize_str("Kano") == (
            "kano" if folds else "Kano"
        )
