"""Models that write down what is said: exported in parts, quantized by part, joined, asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from commands import in_process
from helpers import small_context
from safetensors.numpy import save_file
from speech_models import (
    END,
    NO_TIMES,
    PIECES,
    RATE,
    SPECIAL,
    START,
    sound,
    write_speech_files,
    write_speech_model,
)
from tones import write_wav

import edgecompress
from edgecompress.data.calibration import CalibrationSet
from edgecompress.errors import DataError, StageError
from edgecompress.models.graph import signature
from edgecompress.models.runner import open_onnx
from edgecompress.models.session import open_session
from edgecompress.processors import processor_class
from edgecompress.processors.sounds import Waveform
from edgecompress.quantization.observe.calibration_data import example_data
from edgecompress.stage import check_stage, stage_class
from edgecompress.surgery.model import load_module
from edgecompress.tasks import rows_of, task
from edgecompress.tasks._segments import segments_of
from edgecompress.tasks._transcripts import edits, normalized
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate, Example, OnnxModel

NAME = "automatic-speech-recognition"
EXAMPLES = tuple(
    Example({"audio": Waveform(sound(seed), RATE)}, "ba be", "some", str(seed)) for seed in range(6)
)


def applied(candidate: Candidate, context: Any, *stages: tuple[str, dict[str, Any]]) -> Candidate:
    for number, (name, fields) in enumerate(stages):
        folder, scratch = (context.folder / f"{name}{number}{one}" for one in ("", "-scratch"))
        for one in (folder, scratch):
            one.mkdir(parents=True)
        inner = replace(context, folder=folder, scratch=scratch)
        candidate = stage_class(name)(**fields).apply(candidate, inner)
    return candidate


def tokens_of(candidate: Candidate) -> list[list[int]]:
    """Ask ONNX Runtime about each example, and leave out what follows the end."""
    assert isinstance(candidate.model, OnnxModel)
    session = open_session(candidate.model)
    made = []
    for row in rows_of(candidate, EXAMPLES):
        (found,) = session.run(None, {"input_features": row.feed["input_features"][None]})
        made.append(found[0, :, 0].astype(int).tolist())
    return made


def features_of(candidate: Candidate) -> list[Any]:
    return [row.feed["input_features"] for row in rows_of(candidate, EXAMPLES)]


def theirs(folder: Path, features: list[Any]) -> list[list[int]]:
    """Give what transformers' own `generate` writes."""
    module = transformers.WhisperForConditionalGeneration.from_pretrained(folder / "hf").eval()
    return [module.generate(torch.from_numpy(one)[None])[0].tolist() for one in features]


def words(tokens: list[int], *, behind: int = 0) -> list[int]:
    kept = tokens[behind:]
    return [one for one in (kept[: kept.index(END)] if END in kept else kept) if one < END]


RECIPE = """
name: speech
task: automatic-speech-recognition
teacher: {model: hf}
data:
  {format: csv, root: ., train: train.csv, validation: dev.csv, test: test.csv, seen_test: accept}
stages: [export, quantize.dynamic: {part: encoder, force: true}, join]
profile:
  {min_duration_ms: 100, warmup_ms: 0, max_warmup_ms: 50, min_count: 5, cold_starts: 0,
   attempts: 1}
minimize: size
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where a recipe was run, on right answers that are transformers' own."""
    folder = tmp_path_factory.mktemp("speech")
    place = write_speech_model(folder / "hf")
    processor = processor_class("speech").load(place)
    lines = {name: ["audio,text"] for name in ("train", "dev", "test")}
    features = [processor.features(one.inputs["audio"].samples) for one in EXAMPLES]
    for number, (one, said) in enumerate(zip(EXAMPLES, theirs(folder, features), strict=True)):
        write_wav(folder / f"{number}.wav", one.inputs["audio"].samples, RATE)
        for name, several in lines.items():
            if name != "train" or number:  # its words are no classes that train must have
                several.append(f"{number}.wav,{processor.text(said).strip()}")
    for name, several in lines.items():
        (folder / f"{name}.csv").write_text("\n".join(several) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    done = in_process("run", "recipe.yaml", "-o", "out", "--store", "store", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def kept(folder: Path, *stages: str) -> Candidate:
    """Find what a chain of stages made in the store."""
    made = map(Candidate.load, (one.parent for one in (folder / "store").rglob("candidate.json")))
    wanted = ("teacher", *stages)
    return next(one for one in made if tuple(step.stage for step in one.steps) == wanted)


@pytest.fixture(scope="module")
def exported(ran: Path) -> tuple[Path, Any, Candidate]:
    """The folder, a context and the parts of its model."""
    context = replace(small_context(ran / "c"), train=EXAMPLES, validation=EXAMPLES)
    return ran, context, kept(ran, "export")


@pytest.fixture(scope="module")
def joined(ran: Path) -> Candidate:
    """The graph of all parts."""
    return kept(ran, "export", "join")


def test_a_graph_writes_what_transformers_writes(ran: Path, joined: Candidate) -> None:
    ours, right = tokens_of(joined), theirs(ran, features_of(joined))
    assert [words(one) for one in ours] == [words(one) for one in right]
    assert len({tuple(words(one)) for one in ours}) > 2
    assert all(words(one) and not {0, 3, 4} & {words(one)[0]} for one in ours)


def test_a_model_of_several_languages_finds_the_language(exported: Any, tmp_path: Path) -> None:
    _, context, parts = exported
    write_speech_model(tmp_path / "hf", languages=True)  # with the same weights
    speech = processor_class("speech")
    speech.copy_files(tmp_path / "hf", tmp_path / "preprocessor")
    task(NAME).take_files(tmp_path / "hf", tmp_path / "preprocessor")
    parts = replace(parts, preprocessor=tmp_path / "preprocessor")
    made = applied(parts, replace(context, folder=tmp_path), ("join", {}))
    ours, right = tokens_of(made), theirs(tmp_path, features_of(made))
    assert [words(one, behind=3) for one in ours] == [words(one) for one in right]
    assert {SPECIAL[one[0] - END] for one in ours} <= {"<|en|>", "<|sw|>"}


def timed_theirs(module: Any, features: Any) -> list[int]:
    """Write greedily with times, by transformers' own rules."""
    from transformers.generation import logits_process as rules

    how = module.generation_config
    processors = (
        rules.SuppressTokensAtBeginLogitsProcessor(how.begin_suppress_tokens, 1),
        rules.SuppressTokensLogitsProcessor(how.suppress_tokens),
        rules.WhisperTimeStampLogitsProcessor(how, begin_index=1),
    )
    ids = torch.tensor([[START]])
    while len(ids[0]) < 15 and ids[0, -1] != END:
        scores = module(torch.from_numpy(features)[None], decoder_input_ids=ids).logits[:, -1]
        for one in processors:
            scores = one(ids, scores)
        ids = torch.cat((ids, scores.argmax(-1, keepdim=True)), 1)
    return ids[0, 1:].tolist()


def test_times_follow_the_rules_of_transformers(ran: Path, joined: Candidate) -> None:
    module = transformers.WhisperForConditionalGeneration.from_pretrained(ran / "hf").eval()
    features = features_of(joined)
    with torch.inference_mode():
        right = [timed_theirs(module, one) for one in features]
    session = open_session(joined.model)
    feed = {"input_features": np.stack(features), "timestamps": np.array(True)}
    (found,) = session.run(None, feed)
    for ours, wanted in zip(found[:, :, 0].astype(int).tolist(), right, strict=True):
        assert ours[: len(wanted)] == wanted
    assert all(one[0] > NO_TIMES for one in right)
    assert len({tuple(one) for one in right}) > 2 and any(set(one) - {END} for one in right)


@pytest.mark.parametrize("seed", range(4))
def test_segments_are_those_of_transformers(seed: int) -> None:
    from transformers.models.whisper.generation_whisper import WhisperGenerationMixin

    random = np.random.default_rng(seed)
    for _ in range(50):
        tokens: list[int] = []
        time = NO_TIMES + 1
        while len(tokens) < random.integers(1, 20):
            tokens += [time] * (not tokens or random.random() < 0.9)
            tokens += random.integers(0, END, random.integers(1, 4)).tolist()
            time += int(random.integers(1, 4))
            tokens += [time] * random.integers(0, 3)
        theirs_are, moved = WhisperGenerationMixin._retrieve_segment(
            torch.tensor(tokens), [{}], torch.zeros(1, dtype=torch.float64), NO_TIMES + 1,
            torch.tensor([100]), 0.02, 0.01, 2, 0, 0, False, torch.zeros(1, 1),
        )  # fmt: skip
        ours, next_one = segments_of(tokens, NO_TIMES + 1)
        assert (100 if next_one is None else 2 * next_one) == int(moved)
        assert [one[2] for one in ours] == [
            [int(token) for token in one["tokens"] if token <= NO_TIMES] for one in theirs_are
        ]
        for (begin, end, _), one in zip(ours, theirs_are, strict=True):
            assert begin * 0.02 == pytest.approx(float(one["start"]))
            assert (50 if end is None else end) * 0.02 == pytest.approx(float(one["end"]))


def test_times_move_the_windows_of_a_long_sound(ran: Path, tmp_path: Path) -> None:
    bundle, long = ran / "out" / "bundle", np.concatenate([sound(seed, 0.9) for seed in range(4)])
    file = write_wav(tmp_path / "long.wav", long, RATE)
    found = edgecompress.load(bundle).answer({"audio": file, "timestamps": True}).to_json()
    segments = found["segments"]
    starts = [one["start"] for one in segments]
    assert len(segments) > 4 and starts == sorted(starts) and starts[-1] > 2.5
    assert all(one["start"] <= one["end"] <= 3.6 for one in segments)
    assert found["text"] == " ".join(one["text"] for one in segments)
    said = in_process("predict", bundle, "--set", "timestamps=true", file)
    assert said.returncode == 0, said.stderr
    assert [one.split("  ")[1] for one in said.stdout.splitlines()] == [
        one["text"] for one in segments
    ]
    plain = edgecompress.load(bundle)
    assert "".join(plain.pieces(file)) == plain.answer(file).text
    assert "segments" not in plain.answer(file).to_json()


def test_pytorch_answers_as_the_graph_does(ran: Path, joined: Candidate) -> None:
    module = load_module(kept(ran).model).eval()
    features = np.stack(features_of(joined))
    with torch.inference_mode():
        first = module(torch.from_numpy(features)).tokens.numpy()
    (second,) = open_session(joined.model).run(None, {"input_features": features})
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-4)


def test_what_does_not_change_from_step_to_step_is_made_once(joined: Candidate) -> None:
    """The encoder runs in the kernel of attention, and its keys are turned ahead of the loop."""
    graph = onnx.load(joined.model.path).graph
    assert sum(node.op_type == "MultiHeadAttention" for node in graph.node) == 1
    body = next(node for node in graph.node if node.op_type == "Loop").attribute[0].g
    known = {name for node in graph.node for name in node.output}
    outer = [node.op_type for node in body.node if {*node.input} <= known]
    assert not outer, outer
    turned = [node for node in body.node if node.op_type == "MatMul" and node.input[1] in known]
    assert len(turned) == 4  # keys and values of two layers


def test_the_tied_table_is_stored_once_and_each_part_is_quantized_by_its_own_scheme(
    exported: Any, tmp_path: Path
) -> None:
    _, context, plain = exported
    context = replace(context, folder=tmp_path / "made")
    parts = applied(
        plain, context,
        ("quantize.dynamic", {"part": "encoder", "force": True}),
        ("quantize.weights", {"part": "decoder", "linear_bits": 8, "force": True}),
    )  # fmt: skip
    assert isinstance(parts.model, OnnxModel)
    kinds = {
        name: {node.op_type for node in onnx.load(part.path).graph.node}
        for name, part in parts.model.graphs.items()
    }
    assert "MatMulInteger" in kinds["encoder"] and "MatMulNBits" not in kinds["encoder"]
    assert "MatMulNBits" in kinds["decoder"] and "MatMulInteger" not in kinds["decoder"]
    told = [list(step.decisions["parts"]) for step in parts.steps[-2:]]
    assert told == [["encoder"], ["decoder"]]
    inner = replace(context, folder=tmp_path / "j", scratch=tmp_path / "s")
    for one in (inner.folder, inner.scratch):
        one.mkdir()
    made = check_stage(stage_class("join")(), parts, inner)
    assert all(map(words, tokens_of(made)))
    graph = onnx.load(plain.model.graphs["decoder"].path).graph
    tables = [one for one in graph.initializer if sorted(one.dims) == [16, PIECES]]
    assert len(tables) == 1


def test_a_decoder_is_calibrated_on_what_the_model_writes(
    exported: Any, joined: Candidate, tmp_path: Path
) -> None:
    """The encoder's own answers and the tokens in one go: as transformers reads them."""
    ran, context, parts = exported
    assert isinstance(parts.model, OnnxModel)
    decoder = parts.model.graphs["decoder"]
    inner = replace(context, scratch=tmp_path / "scratch", whole=(parts, "decoder"))
    part = Candidate(decoder, steps=parts.steps)
    data = example_data("quantize.static", None, 3, part, inner, signature(decoder))
    feeds = list(data.feeds())
    rows = rows_of(parts, CalibrationSet(name="random").select(EXAMPLES, context.seed, 3))
    module = transformers.WhisperForConditionalGeneration.from_pretrained(ran / "hf").eval()
    whole = open_onnx(joined.model)
    assert len(feeds) == len(rows) == data.count
    for feed, row in zip(feeds, rows, strict=True):
        features = row.feed["input_features"][None]
        wrote = whole({"input_features": features})["tokens"][0, :, 0].astype(int).tolist()
        read = feed["input_ids"][0].tolist()
        assert read == [START, *wrote][: len(read)]  # and of the last one nothing is read
        assert len(read) == len(wrote) or wrote[len(read) - 1] == END
        with torch.inference_mode():
            expected = module(
                torch.from_numpy(features), decoder_input_ids=torch.tensor([read])
            ).logits[0, -1]
        np.testing.assert_allclose(open_onnx(decoder)(feed)["logits"][0, -1], expected, atol=1e-3)


def test_both_parts_take_ranges_from_the_data(exported: Any, tmp_path: Path) -> None:
    _, context, parts = exported
    made = applied(
        parts,
        replace(context, folder=tmp_path / "c"),
        ("quantize.static", {"part": "encoder", "samples": 4, "force": True}),
        ("quantize.weights", {"part": "decoder", "method": "gptq", "samples": 4, "force": True}),
    )
    assert isinstance(made.model, OnnxModel)
    both = applied(
        parts,
        replace(context, folder=tmp_path / "d"),
        ("quantize.static", {"samples": 4, "force": True}),
        ("join", {}),
    )
    graphs = [onnx.load(one.path).graph for one in (made.model.graphs["encoder"], both.model)]
    for graph in graphs:
        loops = [one for one in graph.node if one.op_type == "Loop"]
        inside = [node for one in loops for node in one.attribute[0].g.node]
        kinds = {node.op_type for node in (*graph.node, *inside)}
        assert "QuantizeLinear" in kinds and "DynamicQuantizeLinear" not in kinds
    told = both.steps[-2].decisions["parts"]
    assert all(told[name]["calibrated_on"] == 4 and told[name]["int8_linears"]
               for name in ("encoder", "decoder"))  # fmt: skip
    assert len(tokens_of(both)) == len(EXAMPLES)


def test_what_cannot_be_joined_is_said(exported: Any, joined: Candidate, tmp_path: Path) -> None:
    _, context, parts = exported
    context = replace(context, folder=tmp_path)
    with pytest.raises(StageError, match="this is one graph"):
        applied(joined, context, ("join", {}))
    with pytest.raises(StageError, match="no part 'middle'"):
        applied(parts, replace(context, folder=tmp_path / "q"),
                ("quantize.dynamic", {"part": "middle"}))  # fmt: skip
    with pytest.raises(StageError, match=r"generation_config\.json"):
        applied(replace(parts, preprocessor=None), replace(context, folder=tmp_path / "r"),
                ("join", {}))  # fmt: skip


def test_a_long_sound_is_cut_where_it_is_quiet_and_silence_has_no_words(
    joined: Candidate,
) -> None:
    made = joined
    quiet = np.zeros(round(0.3 * RATE), np.float32)
    long = np.concatenate((sound(1, 0.8), quiet, sound(2, 0.8), quiet, np.zeros(RATE, np.float32)))
    example = Example({"audio": Waveform(long, RATE)})
    rows = rows_of(made, [example])
    found = rows.processor.windows(example.inputs["audio"])
    assert len(rows) == 2 and 0.8 <= found[0][1] / RATE <= 1.0
    alone = rows_of(made, [Example({"audio": Waveform(long[found[0][0] : found[0][1]], RATE)})])
    np.testing.assert_array_equal(
        rows.rows[0].feed["input_features"], alone.rows[0].feed["input_features"]
    )
    silent = rows_of(made, [Example({"audio": Waveform(np.zeros(3 * RATE, np.float32), RATE)})])
    assert not len(silent)
    assert task(NAME).decode([], silent).labels == (("",),)


@pytest.mark.parametrize(
    ("said", "right", "wrong"),
    [
        ("", "", 0), ("", "a b", 2), ("a b c", "", 3), ("a b c", "a b c", 0),
        ("a c", "a b c", 1), ("a x y c", "a b c", 2), ("b c d", "a b c d e", 2),
        ("k i t t e n", "s i t t i n g", 3),
    ],
)  # fmt: skip
def test_errors_are_counted(said: str, right: str, wrong: int) -> None:
    assert edits(said.split(), right.split()) == wrong


def test_transcripts_are_compared_without_marks() -> None:
    assert normalized("  Mr. O’Brien — [laughs] «isn't» well-known, 20!") == (
        "mister o'brien isn't well known 20"
    )
    assert normalized("Ọjọ́ 3.") == normalized("ọjọ́ 3")


def test_a_recipe_ends_with_a_bundle_that_answers(ran: Path) -> None:
    result = json.loads((ran / "out" / "results.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert {"onnx-fp32", "never a word"} <= set(rows)
    scored = {
        name: {one["metric"]: one["value"] for one in row["measurements"] if not one["slice"]}
        for name, row in rows.items()
    }
    assert scored["never a word"]["wer"] == 1
    assert scored["onnx-fp32"]["real_time_factor"] > 0
    assert scored["onnx-fp32"]["wer"] == 0 and scored["onnx-fp32"]["latency_p50"] > 0
    assert scored["teacher"]["wer"] == 0
    said = in_process("predict", ran / "out" / "bundle", ran / "0.wav")
    assert said.returncode == 0 and said.stdout.strip()
    whole = edgecompress.load(ran / "out" / "bundle").answer(ran / "0.wav")
    assert whole.text == said.stdout.strip() and 0 < whole.to_json()["score"] <= 1


def test_sounds_of_any_form_are_heard_and_broken_ones_refused(ran: Path, tmp_path: Path) -> None:
    bundle = edgecompress.load(ran / "out" / "bundle")
    plain = sound(3, 0.9, 48000)
    file = write_wav(tmp_path / "stereo.wav", np.stack((plain, plain), axis=1), 48000)
    assert bundle.answer(file).text
    assert bundle.answer(Waveform(sound(4, 0.05), RATE)).text is not None
    assert bundle.answer(Waveform(np.zeros(RATE, np.float32), RATE)).text == ""
    (tmp_path / "broken.wav").write_bytes(b"RIFF0000WAVE")
    (tmp_path / "empty.wav").write_bytes(b"")
    for name in ("broken.wav", "empty.wav", "none.wav"):
        done = in_process("predict", ran / "out" / "bundle", tmp_path / name)
        assert done.returncode == 2 or done.returncode == 1
        assert name in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(DataError, match="it takes sounds"):
        bundle.answer({"text": "words"})


def test_what_a_checkpoint_lacks_is_said(tmp_path: Path) -> None:
    write_speech_model(tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    with pytest.raises(DataError, match=r"tokenizer\.json is missing"):
        import_teacher(str(tmp_path / "hf"), NAME, None, tmp_path / "one")
    (tmp_path / "tokenizer.json").rename(tmp_path / "hf" / "tokenizer.json")
    file = tmp_path / "hf" / "generation_config.json"
    asked = json.loads(file.read_text())
    for change, said in (
        ({"eos_token_id": "none"}, "eos_token_id"),
        ({"suppress_tokens": "x"}, "suppress_tokens"),
        ({"is_multilingual": True, "lang_to_id": {"<|en|>": 1}, "language": "xx"}, "'xx'"),
    ):
        file.write_text(json.dumps(asked | change))
        with pytest.raises(DataError, match=said):
            import_teacher(str(tmp_path / "hf"), NAME, None, tmp_path / "two")
    assert START > END


def test_what_cannot_be_done_is_said_before_work_starts(tmp_path: Path) -> None:
    write_speech_files(tmp_path / "hf")
    config = {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    save_file({"model.x": np.zeros(1, np.float32)}, tmp_path / "hf" / "model.safetensors")
    write_wav(tmp_path / "a.wav", sound(0), RATE)
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.csv").write_text("audio,text\na.wav,ba be\n")
    usual = "[export, quantize.dynamic: {part: encoder, force: true}, join]"
    for stages, said in (
        ("[distil: {epochs: 1}, export, join]", "distil: encoders with a decoder cannot be cut"),
        ("[prune.magnitude: {sparsity: 0.5}, export, join]", "cannot be cut, trained or distilled"),
        ("[quantize.inc_dynamic, join]", "quantize.inc_dynamic: encoders with a decoder"),
        ("[export, quantize.dynamic]", "end it with join"),
        ("[export, quantize.dynamic, quantize.weights: {part: decoder}, join]",
         "already quantized"),
    ):  # fmt: skip
        (tmp_path / "recipe.yaml").write_text(RECIPE.replace(usual, stages))
        done = in_process("check", "recipe.yaml", cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace(usual, "[export, quantize.static, join]"))
    done = in_process("check", "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_another_model_that_writes_is_none_of_speech(tmp_path: Path) -> None:
    """It would be taken for one by the ending of its class."""
    write_speech_files(tmp_path / "hf")
    save_file({"model.x": np.zeros(1, np.float32)}, tmp_path / "hf" / "model.safetensors")
    write_wav(tmp_path / "a.wav", sound(0), RATE)
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.csv").write_text("audio,text\na.wav,ba be\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    for kind, name, said in (
        ("t5", "T5ForConditionalGeneration", "without a head for automatic-speech-recognition"),
        ("blip", "BlipForConditionalGeneration", "only where they are of these: Whisper"),
    ):
        config = {"model_type": kind, "architectures": [name]}
        (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
        done = in_process("check", "recipe.yaml", cwd=tmp_path)
        assert done.returncode in (1, 2) and said in done.stderr, done.stderr
        assert name in done.stderr
    done = in_process("compress", "hf", "--data", "train.csv", "-o", "out", cwd=tmp_path)
    assert done.returncode in (1, 2) and f"{name} writes a text" in done.stderr
