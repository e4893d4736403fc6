"""Our own tasks, formats and processors keep the contract, and the checks catch what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extending import module
from helpers import labelled_texts, tagged_examples
from lookup_models import write_tokenizer
from pictures import pictures_of_colours, write_folder
from speech_models import WORDS, sound, write_speech_files
from squares import SIDE, perfect, scenes, write_coco, write_voc, write_yolo
from text_writers import FIRST, write_pieces
from tones import FRONT_END, sounds_of_tones
from tones import write_folder as write_sounds

from edgecompress.conformance import ContractError, check_processor, check_reader, check_task
from edgecompress.data import data_config, data_formats
from edgecompress.passages import right_answers
from edgecompress.processors import TextProcessor, processor_class
from edgecompress.processors.audio import AudioProcessor
from edgecompress.processors.audio_settings import read_settings as read_audio_settings
from edgecompress.processors.detection import DetectionProcessor
from edgecompress.processors.image import ImageProcessor
from edgecompress.processors.image_settings import read_settings
from edgecompress.processors.sounds import Waveform
from edgecompress.processors.tensors import TensorProcessor
from edgecompress.tasks import Row, task, task_names
from edgecompress.tasks.rows import IGNORED
from edgecompress.texts import words_of
from edgecompress.values import Example

PAIRS = tuple(
    Example({"text": one.inputs["text"], "text_pair": "je na"}, float(number))
    for number, one in enumerate(labelled_texts(12))
)
EXAMPLES = {
    "token-classification": tagged_examples(12),
    "text-classification": labelled_texts(12),
    "masked-lm": labelled_texts(12),
    "text-generation": labelled_texts(12),
    "feature-extraction": PAIRS,
    "text-ranking": PAIRS,
    "text-retrieval": tuple(
        Example({"query": f"je {number}", "positives": (f"na {number}",)}) for number in range(5)
    ),
    "image-classification": pictures_of_colours(4),
    "audio-classification": sounds_of_tones(4),
    "object-detection": scenes(4),
    "automatic-speech-recognition": tuple(
        Example({"audio": Waveform(sound(number), 16000)}, WORDS[number]) for number in range(4)
    ),
    "text2text-generation": tuple(Example({"text": "ba"}, WORDS[number]) for number in range(4)),
    "question-answering": tuple(
        Example(
            {"question": "na", "context": f"{'je ' * number}na je"},
            right_answers(f"{'je ' * number}na je", "na"),
        )
        for number in range(9)
    ),
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> TextProcessor:
    words = {word.lower() for example in tagged_examples(60) for word in words_of(example)}
    folder = tmp_path_factory.mktemp("text") / "preprocessor"
    write_tokenizer(folder, ("[MASK]", *sorted(words)))
    return TextProcessor.load(folder)


@pytest.fixture(scope="module")
def text_of(text: TextProcessor, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("of") / "preprocessor"
    write_tokenizer(folder, ("[MASK]", "je", "na"))
    kinds = ("sentences", "passages", "prompts")
    others = {kind: processor_class(kind).load(folder) for kind in kinds}
    speech = processor_class("speech").load(write_speech_files(folder.with_name("speech")))
    sources = processor_class("sources").load(write_pieces(folder.with_name("sources")))
    return {text.kind: text, "speech": speech, "sources": sources, **others}


def pieces_of(processor: TextProcessor) -> Any:
    size = 1 + max(processor.tokenizer.get_vocab(with_added_tokens=True).values())

    def perfect(row: Row) -> np.ndarray:
        labels = row.target["labels"]
        return (labels != IGNORED)[:, None] * np.eye(size)[np.maximum(labels, 0)] * 20.0

    return perfect


@pytest.fixture(scope="module")
def images() -> ImageProcessor:
    return ImageProcessor(read_settings({"size": 8, "do_normalize": False}), "")


def test_every_task_is_checked() -> None:
    assert set(task_names()) == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_our_tasks(name: str, text_of: Any, images: ImageProcessor) -> None:
    found, examples = task(name), EXAMPLES[name]
    sounds = AudioProcessor(read_audio_settings(FRONT_END), "")
    detection = DetectionProcessor(read_settings({"size": SIDE, "do_normalize": False}), "")
    processors = {**text_of, "image": images, "audio": sounds, "detection": detection}
    classes, text = found.label_names(examples), processors[found.processor]
    outputs = None if found.labelled or found.in_parts else pieces_of(text)
    if found.in_parts:
        begin = [one for (one,) in text.decoding.forced]
        first, end = FIRST if found.processor == "sources" else 0, text.decoding.end
        outputs = lambda row: np.array([(one, 0) for one in (*begin, row.example + first, end)])  # noqa: E731
    elif name == "question-answering":
        outputs = lambda row: row.target["labels"] * 20  # noqa: E731
    elif name == "object-detection":
        outputs = perfect
    elif found.outputs[0].kind == "vector":
        outputs = lambda row: np.eye(12)[row.example]  # noqa: E731
    check_task(found, examples, text, classes, outputs)


def test_our_processors(text: TextProcessor) -> None:
    feeds = [row.feed for row in task("text-classification").rows(
        labelled_texts(5), text, ("person", "place"))]  # fmt: skip
    check_processor(text, feeds, ["input_ids", "attention_mask", "token_type_ids", "position_ids"])


FILES = {
    "conll": "Ya O\nal B-PER\n\nWa O\n",
    "tsv": "text\tlabel\nje\thau\nhabari\tswa\n",
    "text": "je\nhabari\n",
    "csv": 'text;label\n"je;\nna";hau\nhabari;swa\n',
    "squad": '{"data": [{"paragraphs": [{"context": "je", "qas": [{"question": "na"}]}]}]}',
    "jsonl": '{"tokens": ["je", "Abuja"], "ner_tags": ["O", "B-LOC"]}\n',
}
BOXED: dict[str, dict[str, Any]] = {
    "coco": {"train": "boxes.json", "images": "photos"},
    "voc": {"train": "train.txt"},
    "yolo": {"train": "images"},
}


def test_our_formats(tmp_path: Path) -> None:
    assert set(data_formats()) == {
        *FILES, *BOXED, "cldr", "digits", "images", "sounds", "parquet", "datasets",
    }  # fmt: skip
    for name, content in FILES.items():
        (tmp_path / f"{name}.txt").write_text(content)
        check_reader(data_config({"format": name, "root": tmp_path, "train": f"{name}.txt"}))
    check_reader(data_config({"format": "cldr", "max_strings": 300}))
    check_reader(data_config({"format": "digits"}))
    write_folder(tmp_path / "images", 1)
    check_reader(data_config({"format": "images", "root": tmp_path, "train": "images"}))
    write_sounds(tmp_path / "sounds", 1)
    check_reader(data_config({"format": "sounds", "root": tmp_path, "train": "sounds"}))
    write_yolo(tmp_path / "yolo", {"train": 3})
    write_coco(tmp_path / "coco", 3)
    write_voc(tmp_path / "voc", 3)
    for name, fields in BOXED.items():
        check_reader(data_config({"format": name, "root": tmp_path / name, **fields}))


def test_formats_that_need_the_extra(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    made = datasets.Dataset.from_dict({"sentence": ["je", "na"], "label": [1, 0]}, features)
    made.to_parquet(tmp_path / "a.parquet")
    made.save_to_disk(tmp_path / "saved")
    for fields in (
        {"format": "parquet", "root": tmp_path, "train": "a.parquet"},
        {"format": "datasets", "root": tmp_path / "saved"},
    ):
        data = data_config(fields)
        check_reader(data)
        assert [one.target for one in data.read("train")] == ["yes", "no"]


class Neighbours(TensorProcessor):
    def batch(self, feeds: Any, names: Any) -> dict[str, np.ndarray]:
        return {name: array + len(feeds) for name, array in super().batch(feeds, names).items()}


class Silent(TensorProcessor):
    def batch(self, feeds: Any, names: Any) -> dict[str, np.ndarray]:
        return super().batch(feeds, [name for name in names if name in feeds[0]])


@pytest.mark.parametrize(
    ("broken", "said"), [(Neighbours(), "a batch of one changes"), (Silent(), "is not refused")]
)
def test_what_a_processor_breaks_is_named(broken: TensorProcessor, said: str) -> None:
    feeds = [{"values": np.ones((length, 2), np.float32)} for length in (2, 3)]
    with pytest.raises(ContractError, match=said):
        check_processor(broken, feeds, ["values"])


def test_what_a_task_breaks_is_named() -> None:
    page = module("numbers_task")
    data = [page.Example({"values": ((1.0, 0.0),)}, label) for label in ("a", "b")]

    class Forgetful(page.NumberSequences):  # type: ignore[misc, name-defined]
        def decode(self, outputs: Any, rows: Any) -> Any:
            return super().decode(outputs, rows).part([0])

    class Inventive(page.NumberSequences):  # type: ignore[misc, name-defined]
        def rows(self, examples: Any, processor: Any, classes: Any) -> Any:
            labelled = [page.Example(e.inputs, e.target or classes[0]) for e in examples]
            return super().rows(labelled, processor, classes)

    for broken, said in ((Forgetful, "1 answers to 2"), (Inventive, "without a target has labels")):
        with pytest.raises(ContractError, match=said):
            check_task(broken(), data, TensorProcessor(), ("a", "b"))
