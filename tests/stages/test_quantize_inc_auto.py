"""`quantize.inc_auto` on a tiny classifier: what it tries, keeps, resumes and makes again."""

import json
import time

import pytest
from helpers import labelled_texts, small_context
from small_encoders import write_encoder

from edgecompress.errors import DataError, StageError
from edgecompress.quantization.inc.config import IncConfig
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stage import check_stage
from edgecompress.stages.quantize.inc_auto import IncAuto
from edgecompress.values import file_digest

TRAIN, VALIDATION = labelled_texts(12), labelled_texts(30, 2)


@pytest.fixture(scope="module")
def classifier_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    return write_encoder(folder, "XLMRoberta", "text-classification")


@pytest.fixture(scope="module")
def tuned(classifier_model, tmp_path_factory):
    context = small_context(tmp_path_factory.mktemp("inc_auto"), train=TRAIN, validation=VALIDATION)
    stage = IncAuto(samples=4, smooth=(), schemes=("dynamic",), most_excluded=1, thorough=True)
    return stage, check_stage(stage, classifier_model, context), context


def test_everything_tried_is_told_and_the_best_is_saved(tuned):
    _, result, _ = tuned
    step = result.steps[-1]
    plans = [one["plan"] for one in step.measured["tried"]]
    assert plans == ["dynamic", "dynamic, 1 layers in fp32"]
    assert step.measured["metric"] == "accuracy"
    scores = [one["score"] for one in step.measured["tried"]]
    assert step.measured["score"] in scores
    assert all(0 < score <= 1 for score in scores)
    found = coverage(result.model)
    assert len(found.int8_linears) == len(step.decisions["int8_linears"])
    assert len(found.fp32_linears) == len(step.decisions["chosen"]["exclude"])


def test_the_record_makes_the_same_file_again(tuned, classifier_model, tmp_path):
    stage, result, _ = tuned
    step = result.steps[-1]
    recorded = json.loads(json.dumps(step.decisions))
    context = small_context(tmp_path, train=TRAIN, validation=VALIDATION)
    again = stage.apply(classifier_model, context, recorded)
    assert file_digest(again.model.path) == file_digest(result.model.path)
    assert again.steps[-1].decisions == step.decisions


def test_a_finished_tuning_is_not_done_again(tuned, classifier_model):
    stage, result, context = tuned
    said = len(context.said)
    again = stage.apply(classifier_model, context)  # the same scratch folder
    assert len(context.said) == said  # nothing was calibrated or judged
    assert again.steps[-1].measured["tried"] == result.steps[-1].measured["tried"]


def test_without_validation_it_says_so(classifier_model, tmp_path):
    with pytest.raises(DataError, match="validation"):
        IncAuto().apply(classifier_model, small_context(tmp_path, train=TRAIN))


def test_a_bad_record_is_an_error(classifier_model, tmp_path):
    context = small_context(tmp_path, train=TRAIN)
    with pytest.raises(StageError, match="no record"):
        IncAuto().apply(classifier_model, context, {"chosen": {}})


def test_of_those_that_reach_the_goal_the_one_with_fewest_fp32_layers_wins():
    from edgecompress.quantization.inc.tuning import Trial, best_trial

    def trial(score, *exclude):
        return Trial(IncConfig("static", exclude=exclude), score, "", 0.0, {})

    trials = [trial(None), trial(0.80), trial(0.86, "a", "b"), trial(0.85, "a"), trial(0.85, "c")]
    assert best_trial(trials, 0.84) == 3
    assert best_trial(trials, 0.90) == 2  # none reaches it: the most accurate
    assert best_trial(trials[:1], 0.1) is None


def test_the_ledger_keeps_the_best_file_and_outlives_a_kill(tmp_path):
    from edgecompress.quantization.inc.tuning import Ledger, Trial

    ledger = Ledger(tmp_path)
    ledger.baseline = 0.9
    for score in (0.7, 0.8, 0.6):
        file = ledger.path(len(ledger.trials))
        file.parent.mkdir()
        file.write_text(str(score), encoding="utf-8")
        plan = IncConfig("static", "minmax", None if score < 0.7 else score)
        ledger.add(Trial(plan, score, "", 1.0, {"chosen": score}), goal=0.9)
    assert [file.read_text(encoding="utf-8") for file in tmp_path.glob("*/model.onnx")] == ["0.8"]
    time.sleep(0.01)
    again = Ledger(tmp_path)
    assert again.trials == ledger.trials
    assert again.baseline == 0.9
    assert again.seconds > 0
    assert again.tried(IncConfig("static", "minmax", 0.8))
    assert not again.tried(IncConfig("static", "minmax", 0.1))


def test_what_is_tried_grows_from_plain_to_layers_in_fp32():
    from edgecompress.quantization.inc.tuning import Settings

    settings = Settings(0.01, 60, ("static", "dynamic"), (0.5, "auto"), 5, False)
    assert [plan.name for plan in settings.plans()] == [
        "static histogram",
        "static minmax",
        "dynamic",
        "static histogram, smooth 0.5",
        "static histogram, smooth auto",
    ]
    found = settings.exclusions(IncConfig("dynamic"), list("abcdefgh"))
    assert [len(plan.exclude) for plan in found] == [1, 2, 4, 5]
    assert settings.exclusions(IncConfig("dynamic"), ["a"]) == []
