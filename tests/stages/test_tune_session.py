"""`tune.session`: settings that are surely faster are kept, and replayed."""

from dataclasses import dataclass, field, replace

import onnx
import pytest
from helpers import SmallContext, small_context, tagged_examples
from pydantic import ValidationError
from small_encoders import write_encoder

from edgecompress.errors import StageError
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.tune.session import Session
from edgecompress.values import Measurement

SPIN = "session.intra_op.allow_spinning"
FEW = {"levels": ("basic",), "optimizers": ("SkipLayerNormFusion", "BiasGeluFusion")}
TOO_LONG = "session." + 3000 * "x"
ENTRIES = {SPIN: ("0",)}


@dataclass(frozen=True)
class ToldContext(SmallContext):
    """Says what each setting costs, with an interval of `width` around the ratio."""

    costs: dict = field(default_factory=dict)
    width: float = 0.01
    invalid: str | None = None
    jobs: list = field(default_factory=list)

    def time(self, candidates):
        times = []
        for candidate in candidates:
            settings = candidate.model.session
            names = [settings.graph_optimization_level, *settings.disabled_optimizers]
            names += [f"{key}={value}" for key, value in settings.config_entries]
            times.append(100 + sum(self.costs.get(name, 0) for name in names))
        self.jobs.append(len(times))
        ratios = [times[0] / t for t in times]
        return [
            (
                Measurement("latency_p50", t, "ms"),
                Measurement(
                    "speedup",
                    r,
                    "x",
                    interval=(r - self.width, r + self.width),
                    invalid=self.invalid,
                ),
            )
            for t, r in zip(times, ratios, strict=True)
        ]


def told(path, costs, **fields):
    plain = small_context(path, validation=tagged_examples(12))
    return ToldContext(**(vars(plain) | {"costs": costs} | fields))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    encoder = write_encoder(folder, "Bert", "token-classification")
    return Export().apply(encoder, small_context(folder / "export"))


def test_what_helps_is_kept_and_what_does_not_is_left(exported, tmp_path):
    costs = {"SkipLayerNormFusion": -30, "BiasGeluFusion": 20, "basic": 50, f"{SPIN}=0": -5}
    context = told(tmp_path, costs)
    made = check_stage(Session(**FEW, entries=ENTRIES), exported, context)
    settings = made.model.session
    assert settings.disabled_optimizers == ("SkipLayerNormFusion",)
    assert settings.config_entries == ((SPIN, "0"),)
    assert settings.graph_optimization_level == "all"
    assert onnx.load(made.model.path) == onnx.load(exported.model.path)
    step = made.steps[-1]
    assert step.decisions["changed"] and step.decisions["session"]["config_entries"] == [
        [SPIN, "0"]
    ]
    assert step.measured["settings"]["level=basic"]["alone"]["speedup"] == 0.6667
    assert context.jobs == [5, 2, 2]


def test_a_gain_that_is_not_sure_is_no_gain(exported, tmp_path):
    stage = Session(**FEW, entries=ENTRIES)
    costs = {"SkipLayerNormFusion": -3}
    for index, fields in enumerate(({"width": 0.05}, {"invalid": "disturbed"})):
        made = stage.apply(exported, told(tmp_path / str(index), costs, **fields))
        assert made.model.session == exported.model.session
        assert not made.steps[-1].decisions["changed"]


def test_settings_under_which_a_quantized_model_answers_otherwise_are_dropped(exported, tmp_path):
    quantized = Dynamic().apply(exported, small_context(tmp_path / "q"))
    stage = Session(**FEW, entries={TOO_LONG: ("1",)}, tolerance=1e-12)
    made = stage.apply(quantized, told(tmp_path / "s", {"basic": -50}))
    log = made.steps[-1].measured["settings"]
    assert log["level=basic"]["outcome"] == "differs by more than 1e-12"
    assert "cannot load" in log[f"{TOO_LONG}=1"]["outcome"]
    assert made.model.session.graph_optimization_level == "all"


def test_a_record_is_replayed_without_timing(exported, tmp_path):
    stage = Session(**FEW, entries=ENTRIES)
    first = stage.apply(exported, told(tmp_path / "a", {"SkipLayerNormFusion": -30}))
    recorded = first.steps[-1].decisions
    again = stage.apply(exported, small_context(tmp_path / "b"), recorded)
    assert again.model.session == first.model.session != exported.model.session
    assert again.steps[-1].decisions == recorded


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "no record"),
        ({"graph_optimization_level": "disable"}, "rules out"),
        ({"disabled_optimizers": ["GeluFusionL2"]}, "rules out"),
        ({"config_entries": [["other", "1"]]}, "rules out"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(exported, tmp_path, change, words):
    plain = {"graph_optimization_level": "all", "disabled_optimizers": [], "config_entries": []}
    recorded = {"session": plain | change} if change else {}
    context = small_context(tmp_path)
    with pytest.raises(StageError, match=words):
        Session(**FEW, entries=ENTRIES).apply(exported, context, recorded)


def test_settings_of_the_model_stay(exported, tmp_path):
    settings = replace(exported.model.session, config_entries=(("session.x", "1"),))
    given = replace(exported, model=replace(exported.model, session=settings))
    made = Session(**FEW, entries=ENTRIES).apply(given, told(tmp_path, {f"{SPIN}=0": -20}))
    assert made.model.session.config_entries == ((SPIN, "0"), ("session.x", "1"))


def test_a_target_that_does_not_exist_is_told(exported, tmp_path):
    stage = Session(levels=("basic",), optimizers=(), entries={}, target="ssh://")
    with pytest.raises(Exception, match="ssh"):
        stage.apply(exported, told(tmp_path, {}))


@pytest.mark.parametrize("entries", [{"session.optimized_model_filepath": ("/tmp/x",)}, {SPIN: ()}])
def test_entries_that_are_no_settings_of_speed_are_refused(entries):
    with pytest.raises(ValidationError, match="session"):
        Session(entries=entries)
