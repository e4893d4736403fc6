"""Keep the word pieces that a corpus needs, and all that lets any other text still be split.

A multilingual embedding is half of a small encoder, and most of its rows are for other languages.
Where a piece is dropped, a text that used it falls into smaller ones, which costs accuracy: rare
names are what suffers. What that comes to on the validation texts stands in the step's decisions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from edgecompress.data.corpus import (
    TRAIN,
    corpus_identity,
    read_corpus,
)
from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind
from edgecompress.stages._fields.corpus import ReadsCorpus
from edgecompress.values import Candidate, Example, Step, TorchModel


class Trim(ReadsCorpus):
    """A smaller vocabulary, proven to split the corpus as the original does."""

    also_called: ClassVar[tuple[str, ...]] = ("tokenizer", "pieces")
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_family: ClassVar[bool] = True

    keep: PositiveInt | None = None
    """How many pieces to keep, special ones included. Places that the corpus does not need go to
    the pieces that come first in the original vocabulary."""
    coverage: float | None = Field(default=None, gt=0, le=1)
    """In place of `keep`: the fewest pieces that make up this share of the corpus."""
    min_count: PositiveInt = 1
    """Leave out pieces that the corpus uses less often."""
    alphabet: Literal["all", "scripts", "corpus"] = "all"
    """Which single characters stay: all that the vocabulary has; those of the scripts that the
    corpus is written in; or only those that it uses. Others become unknown."""

    @model_validator(mode="after")
    def _one_size(self) -> Trim:
        if self.keep is not None and self.coverage is not None:
            raise ValueError("give either keep or coverage")
        return self

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was kept."""
        from edgecompress import telling
        from edgecompress.report.words import number

        pieces, held_out = (
            telling.items(step.decisions.get("pieces")),
            step.decisions.get("held_out"),
        )
        if len(pieces) != 2 or not telling.whole(pieces):
            return ""
        otherwise = held_out.get("words_split_otherwise") if isinstance(held_out, dict) else None
        told = ""
        if isinstance(otherwise, int | float) and not isinstance(otherwise, bool):
            share = number(otherwise, "fraction")
            told = f"; {share} % of the words on validation fall into others"
        return f"Kept {pieces[1]:,} of {pieces[0]:,} word pieces{told}."

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Choose the pieces, write the smaller tokenizer, prove it, and cut the model.

        Raises
        ------
        StageError
            When `keep` is too small, or the trimmed tokenizer is not equal to the original where
            it must be.
        DataError
            When the corpus, the tokenizer or the model cannot be used.
        """
        from edgecompress.processors import TextProcessor
        from edgecompress.surgery.model import load_module, save_module
        from edgecompress.surgery.vocabulary.alphabet import minimum, needed, scripts_used
        from edgecompress.surgery.vocabulary.choice import choose
        from edgecompress.surgery.vocabulary.embedding import keep_pieces, named_ids
        from edgecompress.surgery.vocabulary.files import new_ids, processor_tokens, write_trimmed
        from edgecompress.surgery.vocabulary.pieces import read_vocabulary
        from edgecompress.surgery.vocabulary.proof import check_readable, prove
        from edgecompress.surgery.vocabulary.splitting import counts_by_group, split

        if candidate.preprocessor is None:
            raise StageError("vocabulary.trim needs a model with its tokenizer; this one has none")
        vocabulary = read_vocabulary(candidate.preprocessor / "tokenizer.json")
        names = vocabulary.names
        first, others = self._texts(context)
        texts = (*first, *others)
        original = TextProcessor.load(candidate.preprocessor).tokenizer
        context.progress(0, 4, "splitting the corpus")
        before = split(original, texts)
        counts = counts_by_group(before, names, (len(first), len(others)))
        whole = counts_by_group(before, names, (len(texts),))[0]
        check_readable(vocabulary, whole, texts)

        context.progress(1, 4, "choosing pieces")
        module = load_module(candidate.model)
        named = {names[number] for number in named_ids(module.config).values() if number in names}
        named |= processor_tokens(vocabulary)
        reasons = needed(vocabulary, whole, self.alphabet, named)
        choice = choose(
            vocabulary,
            counts,
            minimum(vocabulary, reasons),
            keep=self.keep,
            coverage=self.coverage,
            min_count=self.min_count,
        )
        folder = context.folder / "preprocessor"
        left_out = write_trimmed(vocabulary, choice.kept, candidate.preprocessor, folder)
        ids = new_ids(vocabulary, choice.kept)

        context.progress(2, 4, "comparing the tokenizers")
        trimmed = TextProcessor.load(folder).tokenizer
        on_corpus = prove(vocabulary, ids, before, split(trimmed, texts))
        held_out = None
        if context.validation:
            splits = (split(one, context.validation) for one in (original, trimmed))
            held_out = prove(vocabulary, ids, *splits)

        context.progress(3, 4, "cutting the model")
        rows = int(module.get_input_embeddings().num_embeddings)
        numbers = {**vocabulary.ids, **vocabulary.added}
        size = _size(module)
        keep_pieces(module, [numbers[piece] for piece in ids])
        model = save_module(module, context.folder / "model")
        changed = candidate.with_model(
            model,
            pieces=[len(numbers), len(ids)],
            rows=[rows, len(ids)],
            embedding_bytes=[size, _size(module)],
            needed={reason: len(pieces) for reason, pieces in reasons.items()},
            needed_in_all=len(choice.needed),
            used=len(choice.used),
            filled=len(choice.filled),
            scripts=list(scripts_used(vocabulary, whole)),
            corpus=on_corpus.as_json(),
            held_out=held_out and held_out.as_json(),
            read=corpus_identity(self.corpus),
            files_left_out=list(left_out),
        )
        return replace(changed, preprocessor=folder)

    def _texts(self, context: Context) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
        """Read what goes first, the training split, and the files."""
        files = [entry for entry in self.corpus if entry != TRAIN]
        first = read_corpus((TRAIN,), context.train) if TRAIN in self.corpus else ()
        return first, read_corpus(files, ())


def _size(module: Any) -> int:
    """Give the bytes of the table with one row for each piece."""
    from edgecompress.surgery.families import word_embedding

    weight = word_embedding(module).weight
    return int(weight.numel() * weight.element_size())
