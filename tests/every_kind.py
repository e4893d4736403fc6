"""A small model of each kind of task, and what it is asked: one line for each kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoints import write_checkpoint
from helpers import small_context
from language_models import write_language_model
from pictures import COLOURS, picture
from question_models import write_question_model
from sentence_models import write_sentence_model
from speech_models import sound, write_speech_model
from squares import COLOURS as SQUARES
from squares import write_yolos
from text_writers import write_text_writer
from tones import TONES, tone, write_wav

TEXTS = ("Amina alienda Kano jiya", "je na leo " * 9)
PAIR = {"text": TEXTS[0], "text_pair": "Juma na Bello leo"}
SOUNDS = ("slow.wav", "usual.wav")
PICTURES = ("wide.png", "tall.jpg")
SPEECH = "speech.wav"


@dataclass(frozen=True)
class Kind:
    """How a model of a task is made and asked.

    Attributes
    ----------
    write : callable
        Writes a checkpoint of Hugging Face's form, which is there already when it is called, with
        the same weights each time.
    asked : tuple of dict
        Lines of JSON, as `edgecompress predict --jsonl` takes them; paths are relative to a folder
        in which `write_inputs` has written.
    labels : tuple of str
    stages : tuple of str
        From the checkpoint to the model of the bundle.
    """

    write: Callable[[Path], Any]
    asked: tuple[dict[str, Any], ...]
    labels: tuple[str, ...] | None = None
    stages: tuple[str, ...] = ("export", "quantize.dynamic")


def _bert(head: str, names: tuple[str, ...]) -> Callable[[Path], Any]:
    return lambda folder: write_checkpoint(folder, "Bert", head, names, seed=1)


def _vit(folder: Path) -> None:
    import torch
    import transformers

    torch.manual_seed(2)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.ViTConfig(**shape, intermediate_size=64, image_size=32, patch_size=8,
                                    id2label=dict(enumerate(COLOURS)))  # fmt: skip
    module = transformers.ViTForImageClassification(config)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.2)
    module.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    processor = {"image_processor_type": "ViTImageProcessor", "size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def _ast(folder: Path) -> None:
    import torch
    import transformers

    torch.manual_seed(2)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.ASTConfig(**shape, intermediate_size=64, max_length=64, num_mel_bins=32,
                                    id2label=dict(enumerate(TONES)))  # fmt: skip
    module = transformers.ASTForAudioClassification(config)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.2)
    module.save_pretrained(folder)
    processor = {"feature_extractor_type": "ASTFeatureExtractor", "num_mel_bins": 32,
                 "max_length": 64}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def _texts(**further: str) -> tuple[dict[str, Any], ...]:
    return tuple({"text": text, **further} for text in TEXTS)


KINDS = {
    "audio-classification": Kind(_ast, tuple({"audio": one} for one in SOUNDS), TONES),
    "automatic-speech-recognition": Kind(
        write_speech_model, ({"audio": SPEECH},), stages=("export", "quantize.dynamic", "join")
    ),
    "feature-extraction": Kind(write_sentence_model, (*_texts(), PAIR)),
    "image-classification": Kind(_vit, tuple({"image": one} for one in PICTURES), COLOURS),
    "object-detection": Kind(write_yolos, tuple({"image": one} for one in PICTURES), SQUARES),
    "question-answering": Kind(
        lambda folder: write_question_model(folder, "question-answering"),
        tuple({"question": "je", "context": text} for text in TEXTS),
    ),
    "text-classification": Kind(_bert("text-classification", ("a", "b")), (*_texts(), PAIR)),
    "text-generation": Kind(
        write_language_model,
        tuple({"text": text[:20], "max_new_tokens": 8} for text in TEXTS),
        stages=("export", "quantize.weights"),
    ),
    "text2text-generation": Kind(
        write_text_writer, _texts(), stages=("export", "quantize.dynamic", "join")
    ),
    "text-ranking": Kind(_bert("text-classification", ("a",)), (PAIR,)),
    "text-retrieval": Kind(write_sentence_model, _texts()),
    "token-classification": Kind(
        _bert("token-classification", ("O", "B-PER", "I-PER")),
        (*_texts(), {"words": TEXTS[0].split()}),
    ),
}


def write_inputs(folder: Path) -> Path:
    """Write the files that are asked about."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for name, (height, width) in zip(PICTURES, ((40, 64), (50, 30)), strict=True):
        Image.fromarray(picture("red", random, height, width)).save(folder / name)
    for name, rate in zip(SOUNDS, (8000, 16000), strict=True):
        write_wav(folder / name, tone("low", random), rate)
    write_wav(folder / SPEECH, sound(0, 1.7), 16000)
    return folder


def asked_of(name: str, folder: Path) -> list[dict[str, Any]]:
    """Give the questions of a kind, with whole paths of the files that `folder` holds."""
    return [
        {
            key: str(folder / one) if isinstance(one, str) and (folder / one).is_file() else one
            for key, one in question.items()
        }
        for question in KINDS[name].asked
    ]


def write_bundle_of(name: str, folder: Path, questions: list[dict[str, Any]]) -> Path:
    """Make a bundle of a kind, of int8 where its stages say nothing else."""
    from edgecompress.bundle import write_bundle
    from edgecompress.stage import stage_class
    from edgecompress.tasks import task
    from edgecompress.training.teacher import import_teacher

    kind = KINDS[name]
    kind.write(folder / "checkpoint")
    made = import_teacher(str(folder / "checkpoint"), name, kind.labels, folder / "teacher")
    examples = tuple(task(name).ask(question) for question in questions)
    for number, stage in enumerate(kind.stages):
        context = small_context(folder / str(number), train=examples)
        made = stage_class(stage)().apply(made, context)
    write_bundle(folder / "bundle", made, {"name": name}, {"edgecompress": "0.1.0"})
    return folder / "bundle"
