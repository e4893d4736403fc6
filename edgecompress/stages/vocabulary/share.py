"""Let word pieces share rows of the embedding; the tokenizer and its answers stay as they are.

Where `vocabulary.trim` drops a piece, a text that used it falls apart into pieces that the model
was never taught to read there. Here such a piece uses the row of the kept piece that is most like
it. The tokenizer stays whole, so that no text gets longer and none becomes unknown.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveInt

from edgecompress.data.corpus import (
    TRAIN,
    corpus_identity,
    read_corpus,
)
from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind
from edgecompress.stages._fields.corpus import ReadsCorpus
from edgecompress.values import Candidate, Json, Step, TorchModel


class Share(ReadsCorpus):
    """Fewer rows in the word embedding: rare pieces use those of similar ones."""

    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = TorchModel
    needs_family: ClassVar[bool] = True

    rows: PositiveInt
    """How many pieces keep a row of their own: special ones, then what the corpus uses most, then
    the first ones of the vocabulary."""

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was shared."""
        from edgecompress import telling
        from edgecompress.report.words import number

        rows, read = (
            telling.items(step.decisions.get("rows")),
            step.decisions.get("held_out_shared"),
        )
        if len(rows) != 2 or not telling.whole(rows):
            return ""
        told = ""
        if isinstance(read, int | float) and not isinstance(read, bool):
            told = f" ({number(read, 'fraction')} % of the pieces on validation)"
        return (
            f"Kept {rows[1]:,} of {rows[0]:,} rows of the word embedding; the other pieces{told} "
            "are read as the most similar one that kept its row."
        )

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Choose the pieces that keep their rows, and give the others the most similar one.

        Raises
        ------
        StageError
            When there is nothing to share: no tokenizer, too few or too many `rows`, a head that
            scores pieces, or an embedding that is shared already.
        DataError
            When the corpus, the tokenizer or the model cannot be used.
        """
        import numpy as np

        from edgecompress.processors import TextProcessor
        from edgecompress.surgery.families import word_embedding, word_path
        from edgecompress.surgery.model import load_module, save_module
        from edgecompress.surgery.sharing import nearest, share_rows, shared
        from edgecompress.surgery.vocabulary.choice import choose
        from edgecompress.surgery.vocabulary.embedding import named_ids
        from edgecompress.surgery.vocabulary.files import processor_tokens
        from edgecompress.surgery.vocabulary.pieces import begins_word, read_vocabulary
        from edgecompress.surgery.vocabulary.proof import check_readable
        from edgecompress.surgery.vocabulary.splitting import counts_by_group, split

        if candidate.preprocessor is None:
            raise StageError("vocabulary.share needs a model with its tokenizer; this one has none")
        vocabulary = read_vocabulary(candidate.preprocessor / "tokenizer.json")
        module = load_module(candidate.model)
        there = int(word_embedding(module).num_embeddings)
        if shared(module):
            raise StageError("the embedding's rows are shared already; give fewer rows there")
        if module.get_output_embeddings() is not None:
            raise StageError("a model that scores pieces needs a row for each; trim it instead")
        if self.rows >= there:
            raise StageError(f"rows is {self.rows}, but the embedding has only {there}")
        first = read_corpus((TRAIN,), context.train) if TRAIN in self.corpus else ()
        others = read_corpus([entry for entry in self.corpus if entry != TRAIN], ())
        found = split(TextProcessor.load(candidate.preprocessor).tokenizer, (*first, *others))
        counts = counts_by_group(found, vocabulary.names, (len(first), len(others)))
        check_readable(vocabulary, {**counts[1], **counts[0]}, (*first, *others))

        names = vocabulary.names
        needed = {*vocabulary.added, *processor_tokens(vocabulary)}
        needed |= {names[n] for n in named_ids(module.config).values() if n in names}
        if self.rows < len(needed):
            raise StageError(
                f"rows is {self.rows}, but {len(needed)} special pieces need their own"
            )
        choice = choose(vocabulary, counts, needed, keep=self.rows, merges=False)
        numbers = {**vocabulary.ids, **vocabulary.added}
        kept = np.array(sorted(numbers[piece] for piece in choice.kept), np.int64)
        used = np.zeros(there, np.int64)
        np.add.at(used, found.ids, 1)
        rows = word_embedding(module).weight.detach().numpy()
        groups = np.zeros(there, np.int64)
        for number, piece in names.items():
            # Nothing may look like a special token: those are a group of their own.
            groups[number] = 2 if piece in needed else begins_word(vocabulary, piece)
        place = nearest(rows, kept, groups, rows[used > 0].mean(0))
        base = module.base_model
        share_rows(base, word_path(module), place, kept.tolist())
        model = save_module(module, context.folder / "model")
        lost = np.ones(there, bool)
        lost[kept] = False
        width = rows.shape[1] * rows.itemsize
        report: Json = {
            "rows": [there, len(kept)],
            "embedding_bytes": [there * width, len(kept) * width + 4 * there],
            "used": len(choice.used),
            "filled": len(choice.filled),
            "corpus_shared": round(float(used[lost].sum() / max(used.sum(), 1)), 6),
            "held_out_shared": None,
            "read": corpus_identity(self.corpus),
        }
        if context.validation:
            held_out = split(
                TextProcessor.load(candidate.preprocessor).tokenizer, context.validation
            )
            report["held_out_shared"] = round(float(lost[held_out.ids].mean()), 6)
        return candidate.with_model(model, **report)
