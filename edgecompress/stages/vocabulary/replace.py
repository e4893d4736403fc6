"""Other, fewer word pieces, learnt from a corpus; their rows begin as means of the old ones.

Where `vocabulary.trim` and `vocabulary.share` keep pieces that were made for other texts, these
are made for this one: words fall into fewer of them, so that inputs are shorter and the model is
faster. Nothing that the model learned fits them as it did; `distil` behind it, which compares by
words, heals what that costs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from edgecompress.data.corpus import corpus_identity, read_corpus
from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind
from edgecompress.stages._fields.corpus import ReadsCorpus
from edgecompress.values import Candidate, Step, TorchModel

FILES = 12
"""Most data files that a sentence tells of one by one."""


class Replace(ReadsCorpus):
    """A new tokenizer of the same kind, with fewer pieces, learnt from a corpus."""

    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_family: ClassVar[bool] = True

    pieces: PositiveInt
    """How many pieces the new tokenizer has at most, special ones included."""
    alphabet: Literal["all", "scripts", "corpus"] = "scripts"
    """Which single characters of the old vocabulary stay, beside those of the corpus: all; those of
    the scripts that the corpus is written in; or no others. Others become unknown."""

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was replaced, and what became of a word."""
        from edgecompress import telling

        pieces = telling.items(step.decisions.get("sizes"))
        if len(pieces) != 2 or not telling.whole(pieces):
            return ""
        held_out = step.decisions.get("held_out")
        found = held_out if isinstance(held_out, dict) else {}
        files = found.get("pieces_per_word_by_file")
        parts = [
            f"{name} {told}"
            for name, each in (files if isinstance(files, dict) else {}).items()
            if (told := _ratio(each))
        ]
        whole = _ratio(found.get("pieces_per_word"))
        told = f"; a word on validation falls into {whole}" if whole else ""
        told += f" ({'; '.join(parts)})" if whole and 0 < len(parts) <= FILES else ""
        return f"Replaced {pieces[0]:,} word pieces by {pieces[1]:,} of the corpus{told}."

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Learn the pieces. The record holds them: some trainers find others each time.

        Raises
        ------
        StageError
            When there is no tokenizer, or `pieces` is too few or not fewer than there are.
        DataError
            When the corpus or the tokenizer cannot be used.
        """
        from edgecompress.processors import TextProcessor
        from edgecompress.surgery.model import read_config
        from edgecompress.surgery.vocabulary.alphabet import needed
        from edgecompress.surgery.vocabulary.embedding import named_ids
        from edgecompress.surgery.vocabulary.files import processor_tokens
        from edgecompress.surgery.vocabulary.pieces import read_vocabulary
        from edgecompress.surgery.vocabulary.proof import check_readable
        from edgecompress.surgery.vocabulary.replacing import learnt
        from edgecompress.surgery.vocabulary.splitting import counts_by_group, split
        from edgecompress.texts import running_text

        vocabulary = read_vocabulary(_tokenizer_of(candidate) / "tokenizer.json")
        if self.pieces >= len(vocabulary.names):
            raise StageError(
                f"pieces is {self.pieces}, but the vocabulary has only {len(vocabulary.names)}"
            )
        examples = read_corpus(self.corpus, context.train)
        context.progress(0, 4, "splitting the corpus")
        found = split(TextProcessor.load(_tokenizer_of(candidate)).tokenizer, examples)
        (counts,) = counts_by_group(found, vocabulary.names, (len(examples),))
        check_readable(vocabulary, counts, examples)
        ids = named_ids(read_config(candidate.model.directory)).values()
        special = {vocabulary.names[number] for number in ids if number in vocabulary.names}
        special |= {*vocabulary.added, *processor_tokens(vocabulary)}
        special |= {vocabulary.unknown} if vocabulary.unknown is not None else set()
        reasons = needed(vocabulary, counts, self.alphabet, special)
        letters = reasons["bytes"] | reasons["characters"]
        context.progress(1, 4, "learning pieces")
        texts = [running_text(one) for one in examples]
        return Decisions(learnt(vocabulary, texts, self.pieces, special, letters))

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the new tokenizer, and make the model's rows of the old ones."""
        import torch

        from edgecompress.processors import TextProcessor
        from edgecompress.surgery.families import word_embedding
        from edgecompress.surgery.model import load_module, save_module
        from edgecompress.surgery.vocabulary.embedding import keep_pieces
        from edgecompress.surgery.vocabulary.files import write_tokenizer
        from edgecompress.surgery.vocabulary.pieces import read_vocabulary
        from edgecompress.surgery.vocabulary.replacing import (
            fared,
            ids_of,
            mixture,
            replaced_document,
        )
        from edgecompress.surgery.vocabulary.splitting import split

        source = _tokenizer_of(candidate)
        vocabulary = read_vocabulary(source / "tokenizer.json")
        ids = ids_of(vocabulary, decisions.record)
        folder = context.folder / "preprocessor"
        document = replaced_document(vocabulary, decisions.record)
        left_out = write_tokenizer(document, ids, source, folder)
        pair = TextProcessor.load(source).tokenizer, TextProcessor.load(folder).tokenizer
        context.progress(2, 4, "comparing the tokenizers")
        examples = read_corpus(self.corpus, context.train)
        numbers = {**vocabulary.ids, **vocabulary.added}
        unknown = (numbers.get(vocabulary.unknown or "", -1), ids.get(vocabulary.unknown or "", -1))
        fares = [
            fared(split(pair[0], texts), split(pair[1], texts), unknown, texts) if texts else None
            for texts in (examples, context.validation)
        ]
        context.progress(3, 4, "making the rows")
        module = load_module(candidate.model)
        table = word_embedding(module)
        rows, width = table.num_embeddings, table.embedding_dim * table.weight.element_size()
        *places, share = map(torch.from_numpy, mixture(vocabulary, ids, pair, examples))
        mixed: Any = torch.sparse_coo_tensor(
            torch.stack(places), share, (len(ids), rows), check_invariants=True
        )
        keep_pieces(module, [numbers.get(piece, -1) for piece in ids], mixed)
        model = save_module(module, context.folder / "model")
        changed = candidate.with_model(
            model,
            sizes=[len(numbers), len(ids)],
            kept=sum(piece in numbers for piece in ids),
            rows=[rows, len(ids)],
            embedding_bytes=[rows * width, len(ids) * width],
            read_texts=fares[0],
            held_out=fares[1],
            read=corpus_identity(self.corpus),
            files_left_out=list(left_out),
        )
        return replace(changed, preprocessor=folder)


def _ratio(found: object) -> str:
    """Say how many pieces a word has, and had; empty where a record does not hold that."""
    from edgecompress import telling

    pair = telling.items(found)
    numbers = [one for one in pair if isinstance(one, int | float)]
    return f"{numbers[1]:.2f}, not {numbers[0]:.2f}" if len(numbers) == len(pair) == 2 else ""


def _tokenizer_of(candidate: Candidate) -> Path:
    if candidate.preprocessor is None:
        raise StageError("vocabulary.replace needs a model with its tokenizer; this one has none")
    return candidate.preprocessor
