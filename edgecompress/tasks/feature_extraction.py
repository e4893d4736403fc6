"""One vector for a text (sentence embeddings), and how near two texts are by theirs.

A text that is longer than the model takes is cut off behind its longest input, as sentence-
transformers does. An example of a pair gives two rows.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecompress.checkpoint import read_object
from edgecompress.errors import DataError, StageError
from edgecompress.modules.sentence_files import (
    LIMITS,
    MODULES,
    PROMPTS,
    has_modules,
    limits_of,
    prompts_of,
)
from edgecompress.tasks._similarity import ScoredPairs, cosine, is_scored
from edgecompress.tasks.answers import Answer, Answers, Findings
from edgecompress.tasks.asking import TEXT, TEXT_PAIR, Field, Form
from edgecompress.tasks.base import Floats, check_outputs
from edgecompress.tasks.rows import Row, Rows
from edgecompress.tasks.taught import Output
from edgecompress.tasks.vectors import as_int8, cut
from edgecompress.texts import texts_of
from edgecompress.values import Example, Json

PROMPT = Field(
    "prompt", "the name of a prompt", '"query"', lambda value: isinstance(value, str), "prompts"
)
DIMENSIONS = Field(
    "dimensions", "a whole number, at least 1", "128", lambda one: type(one) is int and one > 0, ""
)
PRECISION = Field(
    "precision", '"float32" or "int8"', '"int8"', lambda one: one in ("float32", "int8"), ""
)
NEIGHBOURS = 64
"""Texts among which the nearest is looked for, where a model scores pairs itself."""
SHARPNESS = 20.0
"""What cosines are multiplied by in the loss (the scale of sentence-transformers' CoSENTLoss)."""
SHOWN = 4
"""Numbers of a vector that a person is shown."""


class FeatureExtraction(ScoredPairs):
    """A vector for each text."""

    name: ClassVar[str] = "feature-extraction"
    also_called: ClassVar[tuple[str, ...]] = (
        *("sentence-similarity", "sentence-embedding", "embedding", "stsb"),
    )
    auto_class: ClassVar[str] = "AutoModel"
    outputs: ClassVar[tuple[Output, ...]] = (Output("sentence_embedding", "vector"),)
    processor: ClassVar[str] = "sentences"
    forms: ClassVar[tuple[Form, ...]] = ((TEXT,), (TEXT, PROMPT), (TEXT, TEXT_PAIR))
    options: ClassVar[tuple[Field, ...]] = (DIMENSIONS, PRECISION)
    does: ClassVar[str] = "gives a text a vector (sentence embedding)"
    marks: ClassVar[tuple[str, ...]] = (MODULES,)
    kept: ClassVar[tuple[str, ...]] = ("vectors", "similarity")
    untaught: ClassVar[str] = (
        "learns from pairs of texts with scores, or from a teacher's vectors (distil); the "
        "training data has no scored pair"
    )
    architectures: ClassVar[tuple[str, ...]] = (
        *("ForSentenceEmbedding", "Model", "ForMaskedLM", "ForPreTraining"),
    )

    def head_class(self, config: Any) -> type | None:
        """Give a sentence encoder over transformers' body."""
        body: Any = super().head_class(config)
        if body is None:
            return None
        # By its name, as it imports torch: what a task is for hangs on none (see surgery/model.py).
        made: type = import_module("edgecompress.modules.sentence_encoder").encoder_of(body)
        return made

    def lacks_head(self, folder: Path) -> str | None:
        """Say that nobody has said how a vector is made, where that is so."""
        if has_modules(folder) or self.outputs[0].name in read_object(folder / "config.json"):
            return None
        return f"it has no {MODULES}, which says how one vector is made of the tokens of a text"

    def take_files(self, source: Path, folder: Path) -> None:
        """Take the prompts, and the longest input, which sentence-transformers keeps apart."""
        for name in (PROMPTS, LIMITS):
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        prompts_of(folder)  # says what is wrong with it
        most, _ = limits_of(folder)
        file = folder / "tokenizer_config.json"
        document = json.loads(file.read_text(encoding="utf-8"))
        if most is not None and most < document["model_max_length"]:
            document["model_max_length"] = most
            text = json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
            file.write_text(text, encoding="utf-8")

    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give none: it has no classes."""
        if not any(True for example in examples for _ in self.parts(example, None)):
            raise DataError(f"the data holds no text; {self.name} needs some")
        return ()

    def rows(
        self,
        examples: Sequence[Example],
        processor: Any,
        classes: Sequence[str],  # noqa: ARG002 - there are none
    ) -> Rows:
        """Turn each text into a row, cut off behind the longest input."""
        owners, texts = [], []
        for number, example in enumerate(examples):
            for text in self.texts(example, processor):
                owners.append(number)
                texts.append(text)
        nobody = {"labels": np.full(1, np.nan, np.float32)}
        found = []
        for number, ids in zip(owners, processor.encode_text(texts), strict=True):
            row = processor.with_specials(ids[: processor.capacity])
            if not len(row):
                row = np.array([processor.pad_id], dtype=np.int64)
            found.append(Row({"input_ids": row}, number, len(row), target=nobody))
        return Rows(tuple(found), examples, self, processor, ())

    def parts(self, example: Example, processor: Any) -> Iterator[tuple[str, str | None]]:  # noqa: ARG002
        """Give each text of an example that gets a vector, and the name of its prompt."""
        for text in texts_of(example):
            yield text, example.inputs.get("prompt")

    def texts(self, example: Example, processor: Any) -> Sequence[str]:
        """Give each text with its prompt."""
        return [processor.prompted(*part) for part in self.parts(example, processor)]

    def joint_target(self, example: Example) -> Mapping[str, Any]:
        """Give the score of a pair: it is said of both vectors together."""
        return {"scores": np.float32(example.target)} if is_scored(example) else {}

    def loss(self, outputs: Any, targets: Mapping[str, Any]) -> Any | None:
        """Give how far the cosines of pairs are from the order of their scores.

        Any two pairs of a batch count, so that scores may have any scale (Su, 2022, "CoSENT"; the
        same as `CoSENTLoss` of sentence-transformers). 0 where nobody has said a score.

        Parameters
        ----------
        outputs : mapping of str to torch.Tensor
            Vectors, float (2 × pairs, width), the two of a pair one behind the other.
        targets : mapping of str to torch.Tensor
            ``scores``, float (pairs,).
        """
        vectors = outputs[self.outputs[0].name].float()
        if "scores" not in targets:
            return vectors.sum() * 0
        ours, scores = _of_length_one(vectors), targets["scores"]
        alike = (ours[0::2] * ours[1::2]).sum(-1) * SHARPNESS
        counts = scores[:, None] < scores
        counts[0, 0] = True  # a difference of 0, for the 1 in log(1 + Σ exp(…))
        return (alike[:, None] - alike)[counts].logsumexp(0)

    def distance(self, student: Any, teacher: Any) -> Any | None:
        """Give 1 - cosine to the teacher's vector, and how far the similarities in a batch are.

        A narrower student has the first numbers of the teacher's vectors to learn.

        These are the mean squared differences of a text's cosines with the others of the batch
        (Passalis & Tefas, 2018, "Learning deep representations with probabilistic knowledge
        transfer", compare them in kind).

        Raises
        ------
        StageError
            When the student's vectors are wider.
        """
        check_widths(student.shape[-1], teacher.shape[-1])
        ours, its = _of_length_one(student.float()), _of_length_one(teacher.float())
        first = _of_length_one(its[:, : ours.shape[-1]])
        apart = 1 - (ours * first).sum(-1)
        gaps = ours @ ours.T - its @ its.T
        return apart + gaps.square().sum(-1) / max(1, len(ours) - 1)

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Give the vectors of each example, float32 (texts, width), and a pair's similarity."""
        check_outputs(outputs, rows)
        vectors: list[list[Floats]] = [[] for _ in rows.examples]
        for row, values in zip(rows, outputs, strict=True):
            vectors[row.example].append(np.asarray(values, np.float32))
        none = np.zeros(0)
        details = []
        for each in vectors:
            alike = cosine(each[0], each[1]) if len(each) == 2 else np.nan
            details.append({"vectors": np.stack(each), "similarity": np.float64(alike)})
        return Answers(((),) * len(vectors), (none,) * len(vectors), tuple(details))

    def agreement(self, a: Answers, b: Answers) -> float:
        """Give the mean cosine of two models' vectors of the same texts, by the first's width."""
        pairs = zip(a.details, b.details, strict=True)
        found = []
        for one, other in pairs:
            if not np.any(one["vectors"]):  # the floor looks at nothing
                return 0.0
            width = one["vectors"].shape[-1]
            check_widths(width, other["vectors"].shape[-1])
            its = other["vectors"][:, :width]
            found += [cosine(x, y) for x, y in zip(one["vectors"], its, strict=True)]
        return float(np.mean(found)) if found else 1.0

    def answered(self, examples: Sequence[Example], answers: Answers) -> list[Json]:
        """Pair each text with the next one, and with the nearest of `NEIGHBOURS` behind it.

        The scores are the model's own similarities, so that Spearman says how far its order stays.
        """
        texts = [
            (text, vector / max(float(np.linalg.norm(vector)), 1e-12))
            for example, details in zip(examples, answers.details, strict=True)
            for (text, _), vector in zip(self.parts(example, None), details["vectors"], strict=True)
        ]
        found: list[Json] = []
        for place, (text, vector) in enumerate(texts):
            behind = texts[place + 1 : place + 1 + NEIGHBOURS]
            alike = [float(vector @ other) for _, other in behind]
            chosen = dict.fromkeys((0, int(np.argmax(alike)))) if behind else ()
            found += [{"text": text, "text_pair": behind[n][0], "score": alike[n]} for n in chosen]
        return found

    def timed(self, example: Example) -> Example:
        """Give the text alone: a device makes one vector at a time."""
        return Example({key: one for key, one in example.inputs.items() if key != "text_pair"})

    def ask(self, question: Any) -> Example:
        """Make an example of a question; a text of nothing but blanks has no vector."""
        found = super().ask(question)
        for name in ("text", "text_pair"):
            if name in found.inputs and not found.inputs[name].strip():
                raise DataError(f"{name} is empty, and nothing has no vector; give some words")
        return found

    def say(self, answer: Answer, example: Example) -> Json:
        """Say the vector of a text, or how near two texts are: their cosine, from -1 to 1.

        Of vectors as they are asked for: shorter (``dimensions``), or whole numbers from -127 to
        127 (``precision``).
        """
        options = {one.name for one in self.options}
        texts = {key: one for key, one in example.inputs.items() if key not in options}
        vectors = list(answer.details["vectors"])
        if DIMENSIONS.name in example.inputs:
            vectors = [cut(one, example.inputs[DIMENSIONS.name]) for one in vectors]
        whole = example.inputs.get(PRECISION.name) == "int8"
        if "text_pair" in example.inputs:
            a, b = [as_int8(one) for one in vectors] if whole else vectors
            return {**texts, "similarity": cosine(a, b)}
        if whole:
            return {**texts, "vector": as_int8(vectors[0]).tolist()}
        return {**texts, "vector": [float(str(number)) for number in vectors[0]]}

    def describe(self, said: Json) -> str:
        """Write the similarity, or the first numbers of the vector."""
        texts = "  ".join(" ".join(str(said.get(k, "")).split()) for k in ("text", "text_pair"))
        if "similarity" in said:
            return f"{said['similarity']:.4f}  {texts}".rstrip()
        vector = said["vector"]
        kind = "d" if all(isinstance(number, int) for number in vector) else ".4f"
        first = ", ".join(f"{number:{kind}}" for number in vector[:SHOWN])
        return f"{len(vector)} numbers: {first}{', …' if len(vector) > SHOWN else ''}  {texts}"

    def findings(self, answer: Answer, example: Example) -> Findings:  # noqa: ARG002
        """Give the similarity of a pair in words, by hundredths."""
        alike = float(answer.details["similarity"])
        return f"similarity {alike:.2f}" if np.isfinite(alike) else "a vector"


def check_widths(ours: int, its: int) -> None:
    """Refuse to compare vectors with shorter ones.

    Raises
    ------
    StageError
        Naming both.
    """
    if ours > its:
        raise StageError(
            f"vectors of {ours} numbers cannot be compared with a teacher's of {its}; cut them "
            f"first (vectors: {{dimensions: {its}}}), or name a teacher that is as wide"
        )


def _of_length_one(vectors: Any) -> Any:
    """Scale tensors (vectors, width) as `torch.nn.functional.normalize` does."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)
