"""Checkpoints of strangers: nothing outside the folder is read, no pickle, no code, no adapter."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from safetensors.torch import load_file, save_file

from edgecompress.checkpoint import check_folder, find_weights, folder_digests, tensor_shapes
from edgecompress.errors import DataError
from edgecompress.surgery.model import load_module
from edgecompress.training.teacher import import_teacher

NAMES = ("person", "place")
TASK = "text-classification"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "m"
    write_checkpoint(folder, "Bert", TASK, NAMES)
    return folder


@pytest.fixture
def checkpoint(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "m"))


def sharded(folder: Path, count: int = 2) -> dict[str, str]:
    """Divide the weights into files, and give the index's map."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    listed = {}
    for part in range(count):
        name = f"model-{part + 1:05}-of-{count:05}.safetensors"
        mine = dict(list(tensors.items())[part::count])
        save_file(mine, folder / name, metadata={"format": "pt"})
        listed |= dict.fromkeys(mine, name)
    write_index(folder, listed)
    return listed


def write_index(folder: Path, listed: object) -> None:
    text = json.dumps({"metadata": {}, "weight_map": listed})
    (folder / "model.safetensors.index.json").write_text(text)


def refused(folder: Path, message: str, trust: bool = False) -> None:
    with pytest.raises(DataError, match=message) as told:
        import_teacher(str(folder), TASK, NAMES, folder.parent / "t", trust)
    assert "\n" not in str(told.value)
    assert not (folder.parent / "t" / "model").exists()


def change(file: Path, **values: object) -> None:
    document = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**document, **values}))


def test_shards_are_read_and_each_is_part_of_the_identity(checkpoint: Path, tmp_path: Path):
    before = load_file(checkpoint / "model.safetensors")
    sharded(checkpoint)
    weights = find_weights(checkpoint)
    assert {file.name for file in weights.files} <= set(folder_digests(checkpoint))
    assert weights.shapes == {name: tuple(tensor.shape) for name, tensor in before.items()}
    made = import_teacher(str(checkpoint), TASK, NAMES, tmp_path / "t")
    after = load_module(made.model).state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_an_index_names_files_beside_it_and_nothing_else(checkpoint: Path, tmp_path: Path):
    """Random ways out of the folder; the file at the other end is a good one."""
    listed = sharded(checkpoint)
    shard = sorted(set(listed.values()))[0]
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(checkpoint / shard, outside / shard)
    (checkpoint / "sub").mkdir()
    shutil.copy(checkpoint / shard, checkpoint / "sub" / shard)
    ways = [
        str(outside / shard), f"../outside/{shard}", f"./{shard}", f"sub/{shard}",
        f"sub/../../outside/{shard}", f"..\\outside\\{shard}", f"../m/{shard}", "..", ".", "",
    ]  # fmt: skip
    chance = random.Random(3)
    for way in ways:
        victim = chance.choice([name for name, file in listed.items() if file == shard])
        write_index(checkpoint, {**listed, victim: way})
        refused(checkpoint, r"index\.json: names .*(outside the model's folder|not there)")
    write_index(checkpoint, {**listed, "x": "gone.safetensors"})
    refused(checkpoint, r"names 'gone\.safetensors', which is not there")
    for nothing in ({}, [], None, 7):
        write_index(checkpoint, nothing)
        refused(checkpoint, "names no weights")


class Nasty:
    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('code of a pickle was run')",))


def test_an_index_cannot_bring_a_pickle_in(checkpoint: Path, tmp_path: Path):
    listed = sharded(checkpoint)
    victim = next(iter(listed))
    for name in ("pytorch_model.bin", "model.pt", "weights"):
        torch.save({victim: Nasty()}, checkpoint / name)
        write_index(checkpoint, {**listed, victim: name})
        refused(checkpoint, "names a pickle: pickle checkpoint refused.*`trust: pickle`")
    # A trusted one is read without running what is in it.
    refused(checkpoint, "weights of the teacher .* cannot be read", trust=True)


def test_links_out_of_the_folder_are_refused(checkpoint: Path, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in sorted(path.name for path in checkpoint.iterdir()):
        (checkpoint / name).rename(outside / name)
        (checkpoint / name).symlink_to(outside / name)
        refused(checkpoint, f"{name}: a link that leads out of the model's folder")
        (checkpoint / name).unlink()
        (checkpoint / name).symlink_to("nowhere")
        with pytest.raises(DataError):
            check_folder(checkpoint)
            find_weights(checkpoint)
        (checkpoint / name).unlink()
        (outside / name).rename(checkpoint / name)
    (checkpoint / "model.safetensors").rename(checkpoint / "real.safetensors")
    (checkpoint / "model.safetensors").symlink_to("real.safetensors")
    made = import_teacher(str(checkpoint), TASK, NAMES, tmp_path / "t")
    assert made.labels == NAMES


def test_the_hubs_cache_is_a_folder_like_any_other(checkpoint: Path, tmp_path: Path):
    home = tmp_path / "models--org--name"
    blobs, snapshot = home / "blobs", home / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(checkpoint.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(os.path.relpath(blobs / str(number), snapshot))
    assert import_teacher(str(snapshot), TASK, NAMES, tmp_path / "t").labels == NAMES


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "adapter_model.safetensors", "pytorch_adapter.bin"]
)
def test_an_adapter_beside_a_model_is_no_small_thing(name: str, checkpoint: Path):
    (checkpoint / name).write_text("{}")
    refused(checkpoint, f"{name}: an adapter lies here.*merge it into the model first")
    (checkpoint / "config.json").unlink()  # as PEFT saves it: the adapter alone
    refused(checkpoint, "an adapter lies here")


def no_model_type(folder: Path) -> str:
    change(folder / "config.json", model_type="mine", auto_map={"AutoConfig": "code.Mine"})
    return "no configuration that can be read"


def bert_with_code(folder: Path) -> str:
    classes = {"AutoConfig": "code.Mine", "AutoModelForSequenceClassification": "code.Mine"}
    change(folder / "config.json", auto_map=classes)
    return ""


def tokenizer_with_code(folder: Path) -> str:
    change(folder / "tokenizer_config.json", tokenizer_class="Mine",
           auto_map={"AutoTokenizer": ["code.Mine", "code.Mine"]})  # fmt: skip
    return "the tokenizer of .* cannot be read|"


@pytest.mark.parametrize("spoil", [no_model_type, bert_with_code, tokenizer_with_code])
def test_no_code_of_a_checkpoint_is_run(
    spoil: Callable[[Path], str], checkpoint: Path, tmp_path: Path
):
    marker = tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w').close()\nclass Mine:\n    pass\n"
    (checkpoint / "code.py").write_text(code)
    message = spoil(checkpoint)
    try:
        import_teacher(str(checkpoint), TASK, NAMES, tmp_path / "t")
    except DataError as error:
        assert message and message.split(" of ")[0] in str(error)
    assert not marker.exists()


def test_other_files_that_settings_name_are_refused(checkpoint: Path, tmp_path: Path):
    elsewhere = tmp_path / "other.json"
    shutil.copy(checkpoint / "tokenizer.json", elsewhere)
    settings = checkpoint / "tokenizer_config.json"
    for value in (str(elsewhere), "../other.json"):
        change(settings, tokenizer_file=value)
        refused(checkpoint, "tokenizer_file names a file outside the model's folder")
    document = {**json.loads(settings.read_text()), "special_tokens_map_file": "/long/gone.json"}
    del document["tokenizer_file"]
    settings.write_text(json.dumps(document))
    shutil.copy(checkpoint / "model.safetensors", tmp_path / "model.safetensors")
    change(checkpoint / "config.json", transformers_weights="../model.safetensors")
    refused(checkpoint, "transformers_weights names another file of weights")
    change(checkpoint / "config.json", transformers_weights=None)
    assert import_teacher(str(checkpoint), TASK, NAMES, tmp_path / "t").labels == NAMES


def test_a_damaged_head_of_a_file_is_one_sentence(checkpoint: Path):
    file = checkpoint / "model.safetensors"
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    chance = random.Random(5)
    broken = [b"", data[:4], (2**63).to_bytes(8, "little") + data[8:], data[: 8 + size // 2]]
    for _ in range(40):
        at = chance.randrange(8 + size)
        broken.append(data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :])
    broken += [len(t := json.dumps(d).encode()).to_bytes(8, "little") + t
               for d in ([], 7, {"a": 1}, {"a": {"shape": "x"}}, {"__metadata__": 3})]  # fmt: skip
    for number, content in enumerate(broken):
        file.write_bytes(content)
        try:
            tensor_shapes(file)
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert number >= 4  # another letter may leave it whole
