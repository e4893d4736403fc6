"""What `bundle diff` says, as sections of small tables; pure: nothing is printed here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence

from edgecompress.all_metrics import metric as declared
from edgecompress.api.shown import Section
from edgecompress.comparison.changes import Change
from edgecompress.comparison.differences import Differences, Number, StageChange, shown_first
from edgecompress.comparison.flips import VERDICTS, AnswerChange, AnswerChanges, in_words
from edgecompress.comparison.side import Side
from edgecompress.report import words
from edgecompress.report.table import NOT_MEASURED, Notes, cell_of, loss_cell
from edgecompress.values import Measurement

WIDTH = 60
"""Characters of a value or a text beyond which it is shortened; `--json` has the whole."""
DECIDED = 8
"""Lines about one stage, and parts of the data, that are shown."""
SIGNS = {"added": "+", "removed": "−", "changed": "~"}


def sections(found: Differences) -> Iterator[Section]:
    """Lay out what differs; what does not is left out."""
    same = "The cores are the same, to the last byte." if found.same_core else "The cores differ."
    yield Section("", (), (_side("old", found.old), _side("new", found.new)), (same,))
    for title, parts in (
        ("Model", found.about),
        ("Recipe", found.recipe),
        ("Code, platform and libraries", found.versions),
        ("Data, teacher and licences", found.inputs),
    ):
        if parts:
            yield Section(title, (), tuple(map(_change, parts)))
    if found.stages:
        yield Section("Stages", (), tuple(one for stage in found.stages for one in _stage(stage)))
    if found.files:
        lines = tuple(
            (SIGNS[one.kind], one.name, _bytes(one.old_bytes), _bytes(one.new_bytes),
             _more(one.old_bytes, one.new_bytes))
            for one in found.files
        )  # fmt: skip
        yield Section("Files", ("", "", "old", "new", ""), lines, right=2)
    yield from _numbers(found)
    if found.remarks:
        yield Section("To bear in mind", (), (), tuple(f"{one}." for one in found.remarks))


def answer_sections(found: AnswerChanges, shown: int) -> Iterator[Section]:
    """Lay out which answers flip; `shown` is how many of them are listed."""
    notes = [
        f"{len(found.flips):,} of {found.asked:,} answers differ "
        f"({words.significant(found.share * 100)} %)."
    ]
    if found.labelled:
        counts = ", ".join(f"{one} {found.count(one):,}" for one in VERDICTS)
        notes.append(f"{counts}, of {found.labelled:,} texts whose answer is known.")
    if found.metric and found.old_score is not None and found.new_score is not None:
        old, new = found.old_score, found.new_score
        unit = declared(found.metric).unit
        change = f"{words.signed(new - old, unit)} {words.sign(unit)}".rstrip()
        notes.append(
            f"{words.title(found.metric)}: {words.number(old, unit)} → {words.number(new, unit)} "
            f"({change})."
        )
    if found.p_value is not None and found.flips:
        notes.append(
            f"So uneven a split between better and worse comes about by chance with probability "
            f"{found.p_value:.2g} (exact McNemar test)."
        )
    yield Section("Answers", (), (), tuple(notes))
    if found.parts:
        heads = ("", "texts", "differ", "right to wrong", "wrong to right")
        lines = tuple(
            (one.source, f"{one.asked:,}", f"{one.flipped:,}", f"{one.right_to_wrong:,}",
             f"{one.wrong_to_right:,}")
            for one in found.parts
        )  # fmt: skip
        yield Section("By file", heads, lines, right=1)
    if found.flips and shown:
        # Those that got worse matter most; within a kind, the order is that of the file.
        order = {verdict: index for index, verdict in enumerate((*VERDICTS, ""))}
        ranked = sorted(found.flips, key=lambda one: order[one.verdict])
        known = bool(found.labelled)
        rest = len(ranked) - shown
        more = (f"{rest:,} more; --json has all of them, --show lists more.",) if rest > 0 else ()
        if not isinstance(ranked[0].old, str):
            more = ("Entities that both found are left out.", *more)
        heads = ("text", "old", "new", *(("known", "") if known else ()))
        listed = tuple(_flip(one, known=known) for one in ranked[:shown])
        yield Section("Which answers differ", heads, listed, more)


def _side(name: str, side: Side) -> tuple[str, ...]:
    what = side.manifest
    size = words.with_unit(side.size, "bytes")
    return (
        name,
        side.place,
        f"{what.name}, {what.task or 'no task'}",
        size,
        f"core_sha256 {side.digest[:12]}",
    )


def _change(one: Change) -> tuple[str, ...]:
    return SIGNS[one.kind], one.key, _between(one)


def _between(one: Change) -> str:
    if one.kind == "changed":
        return f"{value(one.old)} → {value(one.new)}"
    return value(one.old if one.kind == "removed" else one.new)


def _stage(one: StageChange) -> Iterator[tuple[str, ...]]:
    if one.kind != "changed":
        given = [change for change in one.changes if change.key == "parameters"]
        parameters = given[0].new if given else {}
        yield SIGNS[one.kind], one.stage, value(parameters) if parameters else ""
        return
    if not one.changes:
        yield "~", one.stage, "did and decided the same, from another input, code or library"
        return
    for change in one.changes[:DECIDED]:
        yield "~", f"{one.stage}: {change.key}", _between(change)
    if rest := one.changes[DECIDED:]:
        yield "~", one.stage, f"{len(rest)} more; --json has all of them"


def value(found: object, width: int = WIDTH) -> str:
    """Write a JSON value on one line; a digest or a long value is shortened."""
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    clean = words.plain(text)
    if re.fullmatch(r"[0-9a-f]{40,}", clean):
        return f"{clean[:12]}…"
    return one_line(clean, width)


def one_line(text: str, width: int = WIDTH) -> str:
    """Shorten a text to one harmless line of at most `width` characters."""
    flat = words.plain(re.sub(r"\s+", " ", text))
    return flat if len(flat) <= width else f"{flat[: width - 1]}…"


def _bytes(size: int | None) -> str:
    return words.MISSING if size is None else f"{size:,}"


def _more(old: int | None, new: int | None) -> str:
    if old is None or new is None:
        return ""
    return f"{new - old:+,}".replace("-", "−") if new != old else "same size"


def _numbers(found: Differences) -> Iterator[Section]:
    targets = {one.target for one in found.numbers if one.target}
    # What the harness costs is the machine's, not the model's.
    whole = [
        one
        for one in found.numbers
        if one.slice is None and not declared(one.metric).machine and _differs(one)
    ]
    lines = tuple(_number(one, several=len(targets) > 1) for one in sorted(whole, key=shown_first))
    heads = ("", "old", "new", "difference", "intervals")
    if lines:
        same = sum(one.slice is None and not _differs(one) for one in found.numbers)
        others = "1 other is" if same == 1 else f"{same} others are"
        note = (f"{others} the same, as far as digits are shown.",) if same else ()
        yield Section("Numbers", heads, lines, note, right=1)
    parts = list(_parts(found.numbers))
    if parts:
        ranked = sorted(parts, key=lambda one: one.difference or 0.0)
        lines = tuple(_number(one, several=len(targets) > 1) for one in ranked[:DECIDED])
        rest = len(ranked) - len(lines)
        note = (f"{rest} more; --json has all of them.",) if rest else ()
        yield Section("Numbers by part of the data, the worst first", heads, lines, note, right=1)


def _parts(numbers: Sequence[Number]) -> Iterator[Number]:
    """Give scores by file and by label, on test where there is any."""
    scored = [one for one in numbers if (one.slice or "").startswith(("file:", "label:"))]
    split = "test" if any(one.split == "test" for one in scored) else "validation"
    metrics = {one.slice: one.metric for one in reversed(scored)}
    for one in scored:
        if one.split == split and one.metric == metrics[one.slice] and _differs(one):
            yield one


def _differs(one: Number) -> bool:
    return _figure(one.old) != _figure(one.new)


def _number(one: Number, *, several: bool) -> tuple[str, ...]:
    unit = words.UNITS.get(one.unit, one.unit)
    kind = declared(one.metric)
    lost = kind.lost
    name = f"{words.title(kind.of)} vs {kind.against}" if lost else words.title(one.metric)
    told = [part for part in (one.slice, one.split, one.target if several else None) if part]
    title = ", ".join(words.plain(part) for part in (name, *told)) + (f", {unit}" if unit else "")
    change = one.difference
    text = ""
    if change is not None:
        text = _signed(-change if lost else change, one.unit)
        if one.unit in ("ms", "bytes") and one.old and one.old.value > 0:
            text += f" ({change / one.old.value:+.0%})".replace("-", "−")
    overlap = {True: "overlap", False: "apart", None: ""}[one.overlap]
    return title, _figure(one.old), _figure(one.new), text, overlap


def _signed(change: float, unit: str) -> str:
    """Write a difference with a true minus; one that is not seen at this precision as ±0."""
    text = words.signed(change, unit).replace("-", "−")
    return text if text.strip("+−0.,") else "±0"


def _figure(found: Measurement | None) -> str:
    """Write a value with its interval; a loss as a change, so that its sign is turned."""
    if found is not None and not math.isfinite(found.value):
        return NOT_MEASURED
    write = loss_cell if found is not None and declared(found.metric).lost else cell_of
    cell = write(found, Notes())
    return cell.text + f" ({cell.detail})" * bool(cell.detail) + " not valid" * cell.invalid


def _flip(one: AnswerChange, *, known: bool) -> tuple[str, ...]:
    old, new, right = one.old, one.new, one.known
    if not isinstance(old, str) and not isinstance(new, str):
        both = set(old) & set(new)  # of a long answer only what differs can be seen on a line
        old, new = (tuple(span for span in each if span not in both) for each in (old, new))
        if right is not None and not isinstance(right, str):
            right = tuple(span for span in right if span not in both)
    cells: Iterable[str] = (one.text, in_words(old), in_words(new))
    if known:
        cells = (*cells, "" if right is None else in_words(right), one.verdict)
    return tuple(one_line(cell) for cell in cells)
