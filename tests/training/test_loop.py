"""The training loop: order of rows, schedule, best epoch, divergence, killed and resumed."""

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import labelled_texts, small_context, tiny_teacher
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from edgecompress.errors import DataError, StageError
from edgecompress.stages.finetune import Finetune
from edgecompress.texts import text_example
from edgecompress.training.balance import Draws
from edgecompress.training.balance_fields import Balance
from edgecompress.training.loop import train
from edgecompress.training.schedule import Schedule, batches, learning_rate


def quiet(done, total, what):
    pass


def of(batch_size, tokens=None):
    return Schedule(epochs=1, learning_rate=0.1, batch_size=batch_size, batch_tokens=tokens)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=400),
    st.integers(1, 33),
    st.integers(0, 9),
)
def test_every_row_once_and_the_same_for_a_seed(lengths, batch_size, seed):
    array = np.array(lengths)
    found = list(batches(array, of(batch_size), seed, 0))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    assert len(found) == math.ceil(len(lengths) / batch_size)
    assert all(len(rows) <= batch_size for rows in found)
    again = list(batches(array, of(batch_size), seed, 0))
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=400),
    st.integers(1, 200),
    st.integers(0, 9),
)
def test_batches_of_tokens_hold_no_more_than_that(lengths, tokens, seed):
    array = np.array(lengths)
    found = list(batches(array, of(16, tokens), seed, 0))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    for rows in found:
        assert len(rows) == 1 or len(rows) * array[rows].max() <= tokens


def test_batches_are_of_similar_length_and_change_with_the_epoch():
    lengths = np.random.default_rng(0).integers(3, 100, 1000)
    first, second = (list(batches(lengths, of(16), 1, epoch)) for epoch in (0, 1))
    padded = sum(len(rows) * lengths[rows].max() for rows in first)
    assert padded < 1.1 * lengths.sum()
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_learning_rate_rises_and_falls():
    schedule = Schedule(epochs=1, learning_rate=1.0, batch_size=1, warmup=0.25)
    rates = [learning_rate(schedule, step, 8) for step in range(8)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    curved = replace(schedule, decay="cosine")
    rates = [learning_rate(curved, step, 8) for step in range(8)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[5] == pytest.approx(0.5)
    assert rates[7] == pytest.approx((1 - math.cos(math.pi / 6)) / 2)


def problem(scores=None, poison=None):
    """Fit a line; `scores` are handed out one per epoch, `poison` makes that loss infinite."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(4, 1))
    inputs = torch.randn(40, 4)
    wanted = inputs @ torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    calls = []
    queue = list(scores or [])

    def loss(rows):
        calls.append(rows)
        found = (inputs[rows] @ weight - wanted[rows]).square().mean()
        return found * float("nan") if len(calls) == poison else found

    return {"weight": weight}, loss, lambda: queue.pop(0) if scores else None


LENGTHS = np.arange(40) % 7 + 1
SCHEDULE = Schedule(epochs=4, learning_rate=0.1, batch_size=8)


def test_the_best_epoch_is_kept(tmp_path):
    tensors, loss, score = problem([0.5, 0.9, 0.9, 0.7])
    outcome = train(tensors, LENGTHS, loss, score, SCHEDULE, 1, tmp_path, quiet)
    assert outcome.best == 2
    assert outcome.scores == (0.5, 0.9, 0.9, 0.7)
    two, two_loss, two_score = problem([0.5, 0.9])
    short = tmp_path / "short"
    shorter = Schedule(epochs=4, learning_rate=0.1, batch_size=8, patience=1)
    two_score = iter([0.5, 0.9, 0.1]).__next__
    train(two, LENGTHS, two_loss, two_score, shorter, 1, short, quiet)
    assert torch.equal(tensors["weight"], two["weight"])


def test_without_scores_the_last_epoch_counts(tmp_path):
    tensors, loss, score = problem()
    outcome = train(tensors, LENGTHS, loss, score, SCHEDULE, 1, tmp_path, quiet)
    assert outcome.best == 4
    assert outcome.losses[-1] < outcome.losses[0]


def test_what_needs_no_gradient_is_kept_but_not_trained(tmp_path):
    tensors, loss, score = problem()
    tensors["fixed"] = torch.ones(3)
    train(tensors, LENGTHS, loss, score, SCHEDULE, 1, tmp_path, quiet)
    assert torch.equal(tensors["fixed"], torch.ones(3))
    (folder,) = tmp_path.glob("epoch-*")
    assert set(load_file(folder / "last.safetensors")) == {"weight", "fixed"}


def drawing(balance: Balance, files: list[str], teacher=None) -> Draws:
    examples = [text_example(text="a", source=file) for file in files]
    rows = SimpleNamespace(examples=examples, example=np.arange(len(files)))
    return Draws(balance, rows, teacher)


@given(
    st.lists(st.sampled_from("abc"), min_size=3, max_size=300),
    st.integers(1, 20),
    st.floats(1, 9),
    st.floats(0.1, 9),
)
def test_files_are_drawn_by_weight_and_temperature(files, size, temperature, weight):
    files = [*"abc", *files]
    balance = Balance(weights={"a": weight}, temperature=temperature)
    lengths = np.arange(len(files)) % 7 + 1
    drawn = list(drawing(balance, files).batches(lengths, of(size), 1, 0))
    assert [len(rows) for rows in drawn].count(size) >= len(files) // size
    assert len(drawn) == math.ceil(len(files) / size)
    counts = {name: files.count(name) ** (1 / temperature) for name in "abc"}
    counts["a"] *= weight
    rows = np.concatenate(drawn)
    for name, share in counts.items():
        wanted = len(files) * share / sum(counts.values())
        mine = rows[np.array(files)[rows] == name]
        # A chunk of 50 batches is divided by itself, and rounds by less than one row.
        assert abs(len(mine) - wanted) <= math.ceil(len(files) / (50 * size))
        times = np.bincount(mine, minlength=len(files))[np.array(files) == name]
        assert times.max() - times.min() <= 1  # none comes again before all have come
    again = list(drawing(balance, files).batches(lengths, of(size), 1, 0))
    assert all(np.array_equal(one, two) for one, two in zip(drawn, again, strict=True))


def test_what_lags_behind_the_teacher_is_drawn_more_and_a_killed_training_goes_on(tmp_path):
    files = ["near"] * 20 + ["far"] * 20 + ["unseen"] * 20
    teacher = {"near": 0.9, "far": 0.8}
    lengths = np.arange(60) % 7 + 1
    kept = {}
    for name, epochs in (("whole", (4,)), ("broken", (2, 4))):
        for last in epochs:
            draws = drawing(Balance(lagging=4), files, lambda: teacher)
            tensors, loss, _ = problem()
            schedule = replace(SCHEDULE, epochs=4)
            folder = tmp_path / name

            def score(last=last, folder=folder, draws=draws):
                if last == 2 and (folder / "epoch-0002").is_dir():
                    raise KeyboardInterrupt
                draws.validated({"near": 0.88, "far": 0.74, "other": 0.1})

            def cut(rows, loss=loss):
                return loss(rows % 40)

            try:
                train(tensors, lengths, cut, score, schedule, 1, folder, quiet, draws=draws)
            except KeyboardInterrupt:
                continue
        kept[name] = (tensors["weight"].detach().clone(), draws.as_json())
    assert torch.equal(kept["whole"][0], kept["broken"][0])
    assert kept["whole"][1] == kept["broken"][1]
    drawn = kept["whole"][1]["balance"]
    assert drawn["gap"] == {"far": 0.06, "near": 0.02, "unseen": 0.0}
    # The first epoch knows nothing; then the gaps are all of the largest, a third of it, and none.
    share = 4 / (4 + 4 ** (1 / 3) + 1)
    assert drawn["drawn"]["far"] == pytest.approx((1 / 3 + 3 * share) / 4, abs=0.01)


def test_a_file_ahead_of_the_teacher_is_drawn_as_before():
    draws = drawing(Balance(lagging=2), ["a", "b", "b"], lambda: {"a": 0.5, "b": 0.5})
    draws.validated({"a": 0.6, "b": float("nan")})
    assert draws.shares.tolist() == pytest.approx([1 / 3, 2 / 3])
    with pytest.raises(DataError, match="training has a, b, validation dev"):
        draws.validated({"dev": 0.1})


def test_weights_of_a_file_that_is_not_there_are_refused():
    with pytest.raises(DataError, match="no example comes from 'pmc'; did you mean 'pcm'"):
        drawing(Balance(weights={"pmc": 2.0}), ["pcm", "hau"])


def test_divergence_says_where_and_keeps_the_last_good_epoch(tmp_path):
    tensors, loss, score = problem(poison=13)
    with pytest.raises(
        StageError,
        match=r"epoch 3, batch 3 of 5 \(8 rows of 6 to 7 tokens, learning rate 0.044\); lower",
    ) as caught:
        train(tensors, LENGTHS, loss, score, SCHEDULE, 1, tmp_path, quiet)
    assert "the state after epoch 2 is kept" in str(caught.value)
    assert (tmp_path / "epoch-0002" / "last.safetensors").is_file()
    tensors, loss, score = problem(poison=1)
    with pytest.raises(StageError, match="no epoch was finished"):
        train(tensors, LENGTHS, loss, score, SCHEDULE, 1, tmp_path / "new", quiet)


@pytest.mark.parametrize("at", [6, 12, 19])
def test_a_resumed_run_ends_in_the_same_weights(at, tmp_path):
    scores = [0.5, 0.9, 0.2, 0.3]
    whole, loss, score = problem(scores)
    expected = train(whole, LENGTHS, loss, score, SCHEDULE, 1, tmp_path / "whole", quiet)
    broken, loss, score = problem(scores, poison=at)
    with pytest.raises(StageError):
        train(broken, LENGTHS, loss, score, SCHEDULE, 1, tmp_path / "broken", quiet)
    resumed, loss, _ = problem()
    left = iter(scores[(at - 1) // 5 :])
    outcome = train(resumed, LENGTHS, loss, left.__next__, SCHEDULE, 1, tmp_path / "broken", quiet)
    assert outcome == expected
    assert torch.equal(whole["weight"], resumed["weight"])


def test_the_state_of_another_training_or_a_damaged_one_is_not_used(tmp_path):
    tensors, loss, score = problem()
    train(tensors, LENGTHS, loss, score, SCHEDULE, 1, tmp_path, quiet)
    other = Schedule(epochs=4, learning_rate=0.2, batch_size=8)
    said = []
    tensors, loss, score = problem()
    train(tensors, LENGTHS, loss, score, other, 1, tmp_path, lambda *it: said.append(it))
    assert len(said) == 20
    for name in ("optimizer.pt", "last.safetensors", "state.json"):
        (folder,) = tmp_path.glob("epoch-*")
        (folder / name).write_bytes((folder / name).read_bytes()[:20])
        said.clear()
        tensors, loss, score = problem()
        train(tensors, LENGTHS, loss, score, other, 1, tmp_path, lambda *it: said.append(it))
        assert len(said) == 20


def finetune_small(path, kill_at=None):
    """Finetune a tiny model below `path`; with `kill_at`, die at that batch."""
    texts = labelled_texts(64, 1)
    student = tiny_teacher(path / "new", texts, "text-classification")
    context = small_context(path, train=texts, validation=texts[:20])

    def progress(done, total, what, told=context.progress):
        told(done, total, what)
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    stage = Finetune(epochs=3, learning_rate=3e-3)
    result = stage.apply(student, replace(context, progress=progress))
    weights = (result.model.directory / "model.safetensors").read_bytes()
    return len(context.said), result.steps[-1].decisions, weights


def test_killed_with_9_and_started_again(tmp_path):
    script = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[2:]; "
        "from test_loop import finetune_small; finetune_small(Path(sys.argv[1]), 10)"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", script, str(tmp_path / "broken"), str(here), str(here.parent)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    batches_done, decisions, weights = finetune_small(tmp_path / "whole")
    again, resumed_decisions, resumed_weights = finetune_small(tmp_path / "broken")
    assert (batches_done, again) == (12, 4)
    assert decisions == resumed_decisions
    assert weights == resumed_weights
