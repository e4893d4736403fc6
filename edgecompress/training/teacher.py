"""Where a teacher comes from: a directory or hub id that is brought into our form.

Whatever form a checkpoint has (sharded, older names, a head of another task, a slow tokenizer),
what comes out is the one form that the other rooms read: config.json, model.safetensors,
tokenizer.json and the tokenizer's configuration with the true longest input.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from edgecompress.errors import DataError
from edgecompress.surgery.families import family_names, family_of
from edgecompress.surgery.model import HEADS, load_module, save_module
from edgecompress.surgery.sparsity import read_record
from edgecompress.tasks import task as find_task
from edgecompress.training.body import for_task, with_head
from edgecompress.values import Candidate, TorchModel

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
)
UNNAMED = re.compile(r"LABEL_\d+")
"""What transformers calls the classes of a head that was given no names."""


def import_teacher(
    model: str,
    task: str,
    labels: Sequence[str] | None,
    folder: Path,
    trust: bool = False,
    seed: int = 0,
) -> Candidate:
    """Bring a checkpoint into a candidate's directory.

    Parameters
    ----------
    model : str
        A directory, or the id of a model on the Hugging Face hub. No code of it is ever run.
    task : str
        ``token-classification`` or ``text-classification``.
    labels : sequence of str or None
        The data's labels; they name a head that is new or whose classes have no names.
    folder : Path
        New; gets ``model`` and ``preprocessor``.
    trust : bool
        Read a pickle checkpoint, with `torch.load(weights_only=True)`; else only safetensors.
    seed : int
        Of the weights of a new head.

    Returns
    -------
    Candidate

    Raises
    ------
    DataError
        When the checkpoint, its tokenizer or its label names are missing, damaged, or of a kind
        that is not supported.
    """
    source = Path(model)
    if (source / "candidate.json").is_file():
        return _from_candidate(Candidate.load(source), task, labels, folder, seed)
    config = _config(model)
    pickle = _check_weights(source, trust) if source.is_dir() else False
    tokenizer = _tokenizer(model)
    names = _label_names(config, task, labels)
    module = _module(model, task, config, names, pickle or trust, seed)
    _check_vocabulary(model, tokenizer, module)
    save_module(module, folder / "model")
    write_tokenizer(tokenizer, module, folder / "preprocessor")
    return Candidate(TorchModel(folder / "model"), folder / "preprocessor", task, names)


def _from_candidate(
    candidate: Candidate, task: str, labels: Sequence[str] | None, folder: Path, seed: int
) -> Candidate:
    """Copy a candidate of the task, or take the body of one of another task."""
    if candidate.preprocessor is None:
        raise DataError("this candidate has no tokenizer")
    if candidate.task != task:
        if find_task(task).labelled and not labels:
            raise DataError(f"there is no data to name the labels of a new head for {task}")
        made = for_task(candidate, task, labels or (), folder, seed)
    elif isinstance(candidate.model, TorchModel):
        shutil.copytree(candidate.model.directory, folder / "model")
        made = replace(candidate, model=TorchModel(folder / "model"), steps=())
    else:
        raise DataError("a teacher must be a PyTorch model; this candidate is ONNX")
    shutil.copytree(candidate.preprocessor, folder / "preprocessor")
    return replace(made, preprocessor=folder / "preprocessor")


def write_tokenizer(tokenizer: Any, module: Any, folder: Path) -> None:
    """Write a fast tokenizer with the longest input and the inputs that `module` can take.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
    module : transformers.PreTrainedModel
        Not changed.
    folder : Path
        Made when it does not exist.
    """
    # A limit or padding that someone saved into the file would cut texts silently.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    taken = inspect.signature(module.forward).parameters
    document["model_max_length"] = longest_input(module.config, tokenizer.model_max_length)
    document["model_input_names"] = [n for n in tokenizer.model_input_names if n in taken]
    for key in ("max_length", "name_or_path", "truncation_strategy", "stride"):
        document.pop(key, None)
    text = json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    file.write_text(text, encoding="utf-8")


def longest_input(config: Any, tokenizer_limit: float) -> int:
    """Give the longest input in tokens, special ones included.

    The RoBERTa family numbers positions from behind the padding id: of 514 positions it uses 512.
    """
    positions = int(config.max_position_embeddings)
    if family_of(config).position_offset:
        positions -= int(config.pad_token_id or 0) + 1
    return int(min(tokenizer_limit, positions))


def _config(model: str) -> Any:
    from transformers import AutoConfig

    source = Path(model)
    if source.is_dir() and not (source / "config.json").is_file():
        raise DataError("no config.json in the teacher's directory", file=source)
    if not source.is_dir() and (source.exists() or model.startswith((".", "/", "~"))):
        raise DataError("the teacher must be a directory or a hub id", file=source)
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        known = ", ".join(family_names())
        raise DataError(
            f"no configuration that can be read for the teacher {model!r} ({_short(error)}); "
            f"give a directory or a hub id of one of these kinds: {known}"
        ) from None
    family_of(config)
    return config


def _check_weights(source: Path, trust: bool) -> bool:
    """Say whether the weights of a directory are a pickle; refuse one that is not trusted."""
    if any(source.glob("model*.safetensors")):
        return False
    if any(source.glob("pytorch_model*.bin")):
        if trust:
            return True
        raise DataError(
            "pickle checkpoint refused (it can run code when it is read); convert it to "
            "safetensors, or say `trust: pickle`",
            file=source,
        )
    raise DataError("no model.safetensors in the teacher's directory", file=source)


def _tokenizer(model: str) -> Any:
    from transformers import AutoTokenizer

    source = Path(model)
    if source.is_dir() and not any((source / name).is_file() for name in TOKENIZER_FILES):
        raise DataError(
            "the teacher's directory has no tokenizer (tokenizer.json, vocab.txt or a "
            "sentencepiece model); copy it there",
            file=source,
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, use_fast=True, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception on damaged files
        raise DataError(f"the tokenizer of {model!r} cannot be read ({_short(error)})") from None
    if not tokenizer.is_fast:
        raise DataError(
            f"transformers cannot convert the tokenizer of {model!r} into a tokenizer.json; "
            "a fast tokenizer is needed"
        )
    return tokenizer


def _label_names(config: Any, task: str, labels: Sequence[str] | None) -> tuple[str, ...]:
    if not find_task(task).labelled:
        return ()
    trained = _has_head(config, find_task(task).auto_class)
    ids = sorted(config.id2label or {})
    names = tuple(str(config.id2label[index]) for index in ids)
    unnamed = not names or all(UNNAMED.fullmatch(name) for name in names)
    if trained and not (unnamed and labels):
        return names
    if not labels:
        raise DataError(
            "the teacher has no head for this task and there is no data to name its labels"
        )
    return tuple(labels)


def _has_head(config: Any, auto_class: str) -> bool:
    """Say whether the checkpoint was saved with the head that a task needs."""
    name = next(iter(config.architectures or ()), "")
    return bool(name.endswith(auto_class.removeprefix("AutoModel")))


def _module(
    model: str, task: str, config: Any, names: tuple[str, ...], pickle: bool, seed: int
) -> Any:
    import transformers

    old = [config.id2label[index] for index in sorted(config.id2label or {})]
    renamed = find_task(task).labelled and list(names) != old
    fresh = renamed or not _has_head(config, find_task(task).auto_class)
    if (Path(model) / "surgery.json").is_file():
        cut = load_module(TorchModel(Path(model)))
        return with_head(cut, task, names, seed) if fresh else cut
    if names:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: index for index, name in enumerate(names)}
    auto = getattr(transformers, find_task(task).auto_class)
    before = transformers.logging.get_verbosity()
    # It reports a new head as a fault; here it is expected.
    transformers.logging.set_verbosity_error()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module, report = auto.from_pretrained(
                model,
                config=config,
                trust_remote_code=False,
                use_safetensors=None if pickle else True,
                ignore_mismatched_sizes=fresh,
                attn_implementation="eager",
                dtype=torch.float32,
                output_loading_info=True,
            )
            if renamed and next(iter(config.architectures or ()), "").endswith(HEADS):
                _renew_head(module)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise DataError(
            f"the weights of the teacher {model!r} cannot be read ({_short(error)}); they must be "
            "safetensors that fit config.json (a pickle needs `trust: pickle`)"
        ) from None
    finally:
        transformers.logging.set_verbosity(before)
    _check_loaded(model, module, report, fresh)
    read_record(module, Path(model))
    return module.eval()


def _check_loaded(model: str, module: Any, report: dict[str, Any], fresh: bool) -> None:
    """Refuse a checkpoint that lacks weights: transformers would draw them at random."""
    absent = [*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])]
    prefix = f"{module.base_model_prefix}."
    # A head, and the pooler before it, may be new; the body may not.
    body = {key for key in absent if key.startswith(prefix) and ".pooler." not in key}
    wrong = sorted(body if fresh else absent)
    if wrong:
        raise DataError(
            f"the weights of the teacher {model!r} do not fit its config.json: {wrong[0]} and "
            f"{len(wrong) - 1} others are absent or of another shape"
        )


def _renew_head(module: Any) -> None:
    """Draw the classifier's weights anew: a head whose classes had other names means nothing."""
    for name, part in module.named_modules():
        outside = not name.startswith(module.base_model_prefix)
        if outside and isinstance(part, torch.nn.Linear):
            part.weight.data.normal_(0.0, module.config.initializer_range)
            if part.bias is not None:
                part.bias.data.zero_()


def _check_vocabulary(model: str, tokenizer: Any, module: Any) -> None:
    rows = module.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise DataError(
            f"the tokenizer of {model!r} has {len(tokenizer)} pieces but the model's embedding "
            f"only {rows}; they do not belong together"
        )


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
