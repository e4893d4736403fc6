"""Language models from a checkpoint to a bundle that answers."""

from __future__ import annotations

import inspect
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from commands import in_process
from helpers import small_context
from language_models import (
    FAMILIES,
    LONGEST,
    TEXTS,
    VOCABULARY,
    Made,
    make_language_model,
    without_template,
    write_language_model,
)
from serving import running

import edgecompress
from edgecompress.bundle import write_bundle
from edgecompress.errors import DataError, StageError
from edgecompress.generation.decoding import CachedDecoder
from edgecompress.generation.states import unread
from edgecompress.models import kept_states
from edgecompress.models.cached import cached_difference
from edgecompress.models.runner import open_onnx
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.cache import Cache
from edgecompress.stages.quantize.smooth import Smooth
from edgecompress.stages.quantize.weights import Weights
from edgecompress.targets.accuracy import answers
from edgecompress.targets.agent.sessions import OnnxSession
from edgecompress.targets.base import Clock
from edgecompress.targets.contexts import ContextMemory, ContextTime, contexts_of, feed_at
from edgecompress.targets.local import Local
from edgecompress.tasks import task
from edgecompress.texts import text_example
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate, OnnxModel
from edgecompress.words import printable

ASKED = "na leo"


class Models(dict[str, Made]):
    """The models of all families, each made when it is first asked for."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        super().__init__()
        self.factory = factory

    def __missing__(self, family: str) -> Made:
        folder = self.factory.mktemp(family)
        self[family] = made = make_language_model(folder, family, kernels=FAMILIES[family])
        return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory)


def theirs(bundle: Path, asked: str, count: int) -> tuple[str, list[int]]:
    """What transformers generates."""
    import transformers

    folder = bundle.parent / "checkpoint"
    module = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = tokenizer(asked, return_tensors="pt")
    found = module.generate(**given, max_new_tokens=count, do_sample=False, pad_token_id=0)
    new = found[0, given["input_ids"].shape[1] :].tolist()
    return tokenizer.decode(new, skip_special_tokens=True), [one for one in new if one != 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_likeliest_answers_are_those_of_transformers(made: Models, family: str) -> None:
    found = edgecompress.load(made[family].bundle).answer({"text": ASKED, "max_new_tokens": 20})
    text, tokens = theirs(made[family].bundle, ASKED, 20)
    assert found.answer is not None and found.answer.details["tokens"].tolist() == tokens
    assert found.said["answer"].rstrip("\ufffd") == text.rstrip("\ufffd")
    assert found.said["tokens"] == len(tokens)


def test_one_graph_reads_and_goes_on_and_gives_logits_for_the_last_tokens(
    made: Models,
) -> None:
    runner = open_onnx(OnnxModel(made["Llama"].bundle / "model.onnx"))
    names = [spec.name for spec in runner.specs]
    assert names[:4] == ["input_ids", "attention_mask", "position_ids", "past_key_values.0.key"]
    assert runner.specs[3].shape == ("batch_size", 2, "past_sequence_length", 16)
    assert runner.outputs[:3] == ("logits", "present.0.key", "present.0.value")
    assert [spec.name for spec in runner.optional] == ["num_logits_to_keep"]
    decoder = CachedDecoder(runner)
    ids = np.arange(5, 12)
    feed = {"input_ids": ids[None], "attention_mask": np.ones((1, 7)), **decoder.constant}
    feed["position_ids"] = np.arange(7)[None]
    found = {}
    for kept in (0, 1, 3, 9):
        found[kept] = runner({**feed, "num_logits_to_keep": np.array(kept)})["logits"][0]
    del feed["num_logits_to_keep"]  # who knows nothing of it is given all
    np.testing.assert_array_equal(runner(feed)["logits"][0], found[0])
    for kept, given in found.items():
        assert len(given) == min(kept or 7, 7)
        np.testing.assert_allclose(given, found[0][-len(given) :], atol=1e-5)
    for step in (ids[:3], ids[3:4], ids[4:]):
        logits = decoder.step(step)
    np.testing.assert_allclose(logits, found[0][-1], atol=1e-4)


def test_products_of_one_input_are_one_where_attention_is_a_kernel(made: Models) -> None:
    graph = onnx.load(_graph(made["Llama"].exported).path).graph
    kernels = [node for node in graph.node if node.op_type == "GroupQueryAttention"]
    assert len(kernels) == 2 and all(list(node.input[1:3]) == ["", ""] for node in kernels)
    products = [node.name for node in graph.node if node.op_type == "MatMul"]
    assert len(products) == 2 * 4 + 1
    assert "/model/layers.0/mlp/gate_proj+up_proj/MatMul" in products
    assert "/model/layers.0/self_attn/q_proj+k_proj+v_proj/MatMul" in products
    assert not any(node.op_type == "Reshape" and "layers" in node.name for node in graph.node)
    assert [file.name for file in _graph(made["Llama"].exported).path.parent.iterdir()] == [
        "model.onnx"
    ]


@pytest.mark.parametrize("tables", [False, True])
def test_joined_products_and_the_table_are_smoothed_to_the_bit(
    made: Models, tmp_path: Path, tables: bool
) -> None:
    texts = tuple(text_example(text) for text in TEXTS)
    context = replace(small_context(tmp_path), train=texts)
    stage = Smooth(alpha=1.0, samples=4, tables=tables)
    found = stage.apply(made["Llama"].exported, context)
    folded = found.steps[-1].decisions["folded"]
    assert isinstance(folded, list)
    assert len(folded) == 2 * 3 + tables  # in each layer both normalizations and the gated product
    ids = np.arange(3, 30)[None]
    feed = dict.fromkeys(("input_ids", "attention_mask", "position_ids"), ids)
    runners = [open_onnx(_graph(one)) for one in (made["Llama"].exported, found)]
    exact, smoothed = (one(unread(feed, one.specs))["logits"] for one in runners)
    np.testing.assert_array_equal(exact, smoothed)
    graph = onnx.load(_graph(found).path).graph
    held = [t for t in graph.initializer if list(t.dims) == [len(VOCABULARY), 32]]
    assert len(held) == 1  # the table is stored once, as before
    readers = {node.op_type: node for node in graph.node if held[0].name in node.input}
    assert readers.keys() == {"Gather", "Transpose"}
    behind = next(node for node in graph.node if readers["Gather"].output[0] in node.input)
    assert (behind.op_type == "Mul") == tables


def test_perplexity_is_that_of_pytorch_and_of_a_target(made: Models) -> None:
    import torch
    import transformers

    one = made["Qwen3"]
    module = transformers.AutoModelForCausalLM.from_pretrained(one.checkpoint)
    examples = tuple(text_example(text=text) for text in TEXTS)
    kind, processor = task("text-generation"), _processor(one.teacher)
    rows = kind.rows(examples, processor, ())
    logs = count = 0.0
    for row in rows:
        ids = torch.from_numpy(row.feed["input_ids"])
        with torch.no_grad():
            given = module(ids[None]).logits[0].log_softmax(-1)
        logs += float(given[:-1].gather(1, ids[1:, None]).sum())
        count += len(ids) - 1
    # Windows meet in one token, so that all tokens of a text but its first are judged.
    whole = [len(ids) for ids in processor.encode_text(TEXTS)]
    assert count == sum(whole) - len(TEXTS) and len(rows) > len(TEXTS)
    for candidate in (one.teacher, one.exported):
        scores = kind.score(answers(candidate, examples, Local()), examples, ())
        found = {score.metric: score.value for score in scores if score.slice is None}
        assert found["perplexity"] == pytest.approx(np.exp(-logs / count), rel=1e-4)
        size = sum(len(text.encode()) for text in TEXTS)
        assert found["bits_per_byte"] == pytest.approx(-logs / np.log(2) / size, rel=1e-4)


def _processor(candidate: Candidate) -> Any:
    from edgecompress.tasks import load_processor

    return load_processor("text-generation", candidate.preprocessor)


def test_chats_are_written_as_transformers_writes_them(made: Models) -> None:
    import transformers

    bundle = edgecompress.load(made["Qwen3"].bundle)
    messages = [
        {"role": "system", "content": "Be “brief”."},
        {"role": "user", "content": "je\nna"},
    ]
    folder = made["Qwen3"].bundle.parent / "checkpoint"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    asked = {"messages": messages[1:], "max_new_tokens": 5}
    assert prompt == bundle._processor.chat(messages)
    said = bundle.answer(asked)
    short = tokenizer.apply_chat_template(messages[1:], tokenize=False, add_generation_prompt=True)
    same = bundle.answer({"text": short, "max_new_tokens": 5})
    assert said.said["answer"] == same.said["answer"]
    assert said.said["messages"] == (messages[1],)


def test_what_cannot_be_asked_is_said_in_a_sentence(
    made: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = edgecompress.load(made["Qwen3"].bundle)
    chat = {"messages": [{"role": "user", "content": "je"}]}
    with pytest.raises(DataError, match=f"and the model takes {LONGEST} together"):
        bundle.answer("je na " * 40)
    with pytest.raises(DataError, match="the prompt is empty"):
        bundle.answer("")
    with pytest.raises(DataError, match="top_p must be a number from 0 to 1"):
        bundle.answer({"text": "je", "top_p": 2})
    with pytest.raises(DataError, match='messages must be a list of objects with a "role"'):
        bundle.answer({"messages": [{"role": "robot", "content": "je"}]})
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(DataError, match="chats need jinja2, which is not installed"):
        bundle.answer(chat)
    write_language_model(tmp_path / "checkpoint")
    without_template(tmp_path / "checkpoint")
    source = str(tmp_path / "checkpoint")
    bare = import_teacher(source, "text-generation", None, tmp_path / "teacher")
    with pytest.raises(DataError, match="has no chat template"):
        _processor(bare).chat(chat["messages"])


def test_answers_stream_stop_and_repeat_with_a_seed(made: Models) -> None:
    bundle = edgecompress.load(made["GPT2"].bundle)
    how = {"text": ASKED, "max_new_tokens": 24, "temperature": 1.0, "seed": 5}
    pieces = list(bundle.pieces(how))
    answer = bundle.answer(how).said["answer"]
    assert "".join(pieces) == answer and len(pieces) > 3
    assert bundle.answer({**how, "seed": 6}).said["answer"] != answer
    sign = answer[len(answer) // 2]
    stopped = bundle.answer({**how, "stop": sign}).said["answer"]
    assert stopped == answer[: answer.index(sign)]


def test_the_command_line_and_the_service_answer(made: Models) -> None:
    folder = made["Llama"].bundle.parent
    said = edgecompress.load(made["Llama"].bundle).answer({"text": ASKED, "max_new_tokens": 9})
    beside = ("--set", "max_new_tokens=9")
    found = in_process("predict", "bundle", ASKED, "--json", *beside, cwd=folder)
    assert json.loads(found.stdout) == said.to_json()
    plain = in_process("predict", "bundle", ASKED, *beside, cwd=folder)
    assert plain.stdout.strip() == printable(said.said["answer"]).strip()
    wrong = in_process("predict", "bundle", ASKED, "--set", "temprature=1", cwd=folder)
    assert wrong.returncode == 2 and "did you mean 'temperature'?" in wrong.stderr
    with running(made["Llama"].bundle) as server:
        answer = server.predict(text=ASKED, max_new_tokens=9)
        assert answer.json == said.to_json()
        reply = server.predict(text=ASKED, max_new_tokens=9, stream=True)
        assert reply.headers["content-type"].startswith("text/event-stream")
        events = reply.body.decode().strip().split("\n\n")
        *pieces, end = [json.loads(one.partition("data: ")[2]) for one in events]
        assert events[-1].startswith("event: end")
        assert "".join(one["piece"] for one in pieces) == said.said["answer"]
        assert end == said.to_json()
        refused = server.predict(text=ASKED, top_k=-1)
        assert refused.status == 422 and "top_k must be" in refused.json["error"]


def test_products_may_be_computed_in_fp32(made: Models, tmp_path: Path) -> None:
    stage = Weights(linear_bits=8, embedding_bits=8, compute="fp32")
    found = stage.apply(made["Llama"].exported, small_context(tmp_path))
    nodes = onnx.load(_graph(found).path).graph.node
    products = [node for node in nodes if node.op_type == "MatMulNBits"]
    assert products and all(
        attribute.i == 0
        for node in products
        for attribute in node.attribute
        if attribute.name == "accuracy_level"
    )
    ids = np.arange(3, 30)[None]
    feed = dict.fromkeys(("input_ids", "attention_mask", "position_ids"), ids)
    runners = [open_onnx(_graph(one)) for one in (made["Llama"].exported, found)]
    exact, rounded = (one(unread(feed, one.specs))["logits"] for one in runners)
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("bits", [4, 8])
def test_a_table_that_the_last_layer_is_tied_to_is_stored_once(
    made: Models, tmp_path: Path, bits: int
) -> None:
    source = made["Llama"].exported.model
    assert isinstance(source, OnnxModel)
    others = {node.name for node in onnx.load(source.path).graph.node if node.op_type == "MatMul"}
    others -= {"/lm_head/MatMul"}
    stage = Weights(embedding_bits=bits, exclude=tuple(sorted(others)))  # type: ignore[arg-type]
    found = stage.apply(made["Llama"].exported, small_context(tmp_path))
    assert isinstance(found.model, OnnxModel)
    graph = onnx.load(found.model.path).graph
    nodes = {node.op_type: node for node in graph.node}
    table = nodes["GatherBlockQuantized"].input[0]
    last = next(node for node in graph.node if node.name == "/lm_head/MatMul")
    (turned,) = [node for node in graph.node if last.input[1] in node.output]
    assert turned.op_type == "Reshape" and turned.input[0] == table
    rows = {tensor.name: tensor.dims for tensor in graph.initializer}
    assert list(rows[table]) == [len(VOCABULARY), 32 * bits // 8]
    runner = open_onnx(found.model)
    assert [spec.name for spec in runner.optional] == ["num_logits_to_keep"]
    before = open_onnx(source)
    ids = np.arange(3, 12)[None]
    feed = unread(dict.fromkeys(("input_ids", "attention_mask", "position_ids"), ids),
                  runner.specs)  # fmt: skip
    exact, rounded = (each(feed)["logits"] for each in (before, runner))
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > (0.95 if bits == 4 else 0.9995)


def test_a_cache_in_int8_costs_little_and_is_refused_where_no_kernel_keeps_it(
    made: Models, tmp_path: Path
) -> None:
    examples = tuple(text_example(text=text) for text in TEXTS)
    stage = Cache(samples=20)
    context = small_context(tmp_path / "cache", train=examples)
    found = stage.apply(made["Llama"].exported, context)
    assert isinstance(found.model, OnnxModel)
    runner, before = open_onnx(found.model), open_onnx(_graph(made["Llama"].exported))
    states = [spec for spec in runner.specs if spec.name.startswith("past_key_values.")]
    assert {spec.dtype for spec in states} == {"int8"} and len(states) == 4
    (ids,) = _processor(made["Llama"].exported).encode_text(TEXTS[:1])
    feed = dict.fromkeys(("input_ids", "attention_mask", "position_ids"), ids[None])
    exact, kept = (one(unread(feed, one.specs))["logits"][0] for one in (before, runner))
    assert np.corrcoef(exact.ravel(), kept.ravel())[0, 1] > 0.98
    assert cached_difference(runner, ids) < 1e-3
    with pytest.raises(StageError, match="export the model here with kernels: true"):
        stage.apply(made["Qwen3"].exported, small_context(tmp_path / "plain", train=examples))


def test_a_cache_in_fp16_takes_half_and_reads_no_samples(made: Models, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="samples is for bits: 8 only"):
        Cache(bits=16, samples=4)
    stage = Cache(bits=16)
    assert not stage.reads_examples()
    found = stage.apply(made["Llama"].exported, small_context(tmp_path / "cache"))
    runner, before = open_onnx(_graph(found)), open_onnx(_graph(made["Llama"].exported))
    states = [spec for spec in runner.specs if spec.name.startswith("past_key_values.")]
    assert {spec.dtype for spec in states} == {"float16"} and len(states) == 4
    (ids,) = _processor(made["Llama"].exported).encode_text(TEXTS[:1])
    feed = dict.fromkeys(("input_ids", "attention_mask", "position_ids"), ids[None])
    exact, kept = (one(unread(feed, one.specs))["logits"][0] for one in (before, runner))
    assert exact.dtype == kept.dtype and not np.array_equal(exact, kept)
    np.testing.assert_allclose(kept, exact, atol=0.01 * exact.std())
    assert cached_difference(runner, ids) < 1e-3
    decoder = CachedDecoder(runner)  # in one place, as before
    steps = [decoder.step(ids[:3]), *(decoder.step(ids[n : n + 1]) for n in range(3, len(ids)))]
    np.testing.assert_allclose(steps[-1], exact[-1], atol=0.01 * exact.std())
    with pytest.raises(StageError, match="export the model here with kernels: true"):
        stage.apply(made["Qwen3"].exported, small_context(tmp_path / "plain"))


def test_heads_that_the_kernel_cannot_rotate_are_rotated_in_front_of_it(tmp_path: Path) -> None:
    """Of 8 it takes what is rotated; those of 12 it does not take, and a sentence says so."""
    write_language_model(tmp_path / "8", head_dim=8)
    teacher = import_teacher(str(tmp_path / "8"), "text-generation", None, tmp_path / "teacher")
    exported = Export(kernels=True).apply(teacher, small_context(tmp_path / "exported"))
    graph = onnx.load(_graph(exported).path).graph
    kernels = [node for node in graph.node if node.op_type == "GroupQueryAttention"]
    rotates = [one.i for node in kernels for one in node.attribute if one.name == "do_rotary"]
    assert rotates == [0, 0]
    examples = tuple(text_example(text=text) for text in TEXTS)
    found = Cache().apply(exported, small_context(tmp_path / "cache", train=examples))
    (ids,) = _processor(exported).encode_text(TEXTS[:1])
    assert cached_difference(open_onnx(_graph(found)), ids) < 1e-3
    write_language_model(tmp_path / "12", head_dim=12)
    teacher = import_teacher(str(tmp_path / "12"), "text-generation", None, tmp_path / "odd")
    with pytest.raises(StageError, match=r"heads of a size of 12 .* leave `kernels` out of"):
        Export(kernels=True).apply(teacher, small_context(tmp_path / "refused"))


def _graph(candidate: Candidate) -> OnnxModel:
    assert isinstance(candidate.model, OnnxModel)
    return candidate.model


def test_both_speeds_are_measured_by_context(made: Models) -> None:
    candidate, clock = made["GPT2"].exported, Clock(min_duration_ms=5, warmup_ms=1)
    assert contexts_of(candidate, (8, 32, 512)) == (8, 32)
    assert contexts_of(made["GPT2"].teacher, (8,)) == ()
    found = [
        one
        for part in ("prompt", "token")
        for one in ContextTime(candidate, (), clock, Local(), context=32, parts=(part,)).measure()
    ]
    assert [(one.metric, one.unit, one.slice) for one in found] == [
        ("first_token", "ms", "context:32"),
        ("token_rate", "1/s", "context:32"),
    ]
    assert all(one.value > 0 for one in found)
    (memory,) = ContextMemory(
        candidate, (), replace(clock, cold_starts=1), Local(), context=8
    ).measure()
    assert memory.metric == "peak_memory" and memory.value > 10**7


@pytest.mark.parametrize("family", ["Llama", "GPT2"])
def test_states_are_kept_in_place_where_the_kernel_can(
    made: Models, family: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same answers as where all that was read is copied for each token, here and on boards."""
    model, kernels = _graph(made[family].exported), FAMILIES[family]
    monkeypatch.setattr(kept_states, "ROOM", 8)  # so that it is outgrown
    ids, steps = np.arange(5, 35), (7, 8, 9, 14, 30)
    graph = open_onnx(model)
    decoder = CachedDecoder(graph)
    found = [decoder.step(ids[a:b]) for a, b in itertools.pairwise((0, *steps))]
    whole = graph(unread(_feed(ids), graph.specs))["logits"][0]
    for stop, logits in zip(steps, found, strict=True):
        np.testing.assert_allclose(logits, whole[stop - 1], atol=1e-4)
    kept: Any = inspect.getclosurevars(decoder.run).nonlocals["kept"]
    assert kept.in_place == kernels and kept.room == (32 if kernels else 0)
    session = OnnxSession(
        {"path": str(model.path)}, {"threads": 1, "mode": "time", "outputs": ["logits"]}, tmp_path
    )
    for context in (20, 30):
        feeds = [feed_at(model, context, part) for part in ("prompt", "token")]
        tokens = feeds[1]["past_key_values.0.key"].shape[2]
        assert tokens == (0 if kernels else context)
        for feed in feeds:
            (said,) = session(feed)
            assert said.shape == (1, 1, len(VOCABULARY)) and np.isfinite(said).all()
    if kernels:  # the second token is read behind the prompt, as the loop does
        decoder = CachedDecoder(graph)
        decoder.step(feeds[0]["input_ids"][0])
        session(feeds[0])
        np.testing.assert_allclose(
            session(feeds[1])[0][0, 0], decoder.step(feeds[1]["input_ids"][0]), atol=1e-5
        )


def _feed(ids: np.ndarray) -> dict[str, np.ndarray]:
    return dict.fromkeys(("input_ids", "attention_mask", "position_ids"), ids[None])


def test_a_decoder_of_another_program_answers(made: Models, tmp_path: Path) -> None:
    """As Optimum writes a folder: the graph beside the tokenizer, and no number of logits."""
    folder = tmp_path / "folder"
    shutil.copytree(made["Qwen3"].checkpoint, folder)
    (folder / "model.safetensors").unlink()
    graph = onnx.load(_graph(made["Qwen3"].exported).path)
    del graph.graph.input[-1]
    assert all(value.name != "num_logits_to_keep" for value in graph.graph.input)
    onnx.save(graph, folder / "model.onnx")
    done = in_process(
        "quantize", "folder", "--scheme", "weights", "--task", "text-generation", "-o", "small",
        "--store", "store", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    small = Candidate.load(tmp_path / "small")
    write_bundle(tmp_path / "bundle", small, {"name": "other"}, {"edgecompress": "0.1.0"})
    said = edgecompress.load(tmp_path / "bundle").answer({"text": ASKED, "max_new_tokens": 4}).said
    assert said["prompt_tokens"] == 5 and said["tokens"] <= 4
