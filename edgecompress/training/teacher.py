"""Where a teacher comes from: a directory or hub id that is brought into our form.

Whatever form a checkpoint has (sharded, older names, a head of another task, a slow tokenizer),
what comes out is the one form that the other rooms read: config.json, model.safetensors, and the
files of the task's processor (of text: tokenizer.json and its configuration with the true longest
input).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from edgecompress.checkpoint import check_folder, find_weights
from edgecompress.errors import DataError
from edgecompress.hub import model_folder
from edgecompress.processors import TextProcessor, processor_class
from edgecompress.surgery.model import head_names, load_module, register_models, save_module
from edgecompress.surgery.sparsity import read_record
from edgecompress.tasks import lacks_files
from edgecompress.tasks import task as find_task
from edgecompress.training.body import for_task, with_head
from edgecompress.training.heads import (
    HeadRules,
    class_names,
    labels_of_new,
    new_head,
    renamed,
    untrained,
)
from edgecompress.training.label_proposal import check_names
from edgecompress.training.teacher_tokenizer import read_tokenizer, write_tokenizer
from edgecompress.values import Candidate, TorchModel

UNREADABLE = (SafetensorError, UnpicklingError)
"""What readers of weights raise; transformers 5 hands a refused pickle on as it is."""
USUAL_DEVIATION = 0.02
"""Of new weights, where a configuration names none, as those of convolutional networks: most of
transformers' take this."""


def import_teacher(
    model: str,
    task: str,
    labels: Sequence[str] | None,
    folder: Path,
    trust: bool = False,
    seed: int = 0,
    rules: HeadRules | None = None,
) -> Candidate:
    """Bring a checkpoint into a candidate's directory.

    Parameters
    ----------
    model : str
        A directory, or the id of a model on the Hugging Face hub. No code of it is ever run.
    task : str
        By its name.
    labels : sequence of str or None
        The data's labels: a trained head must have them, and a new one gets them.
    folder : Path
        New; gets ``model`` and ``preprocessor``.
    trust : bool
        Read a pickle checkpoint, with `torch.load(weights_only=True)`; else only safetensors.
    seed : int
        Of the weights of a new head.
    rules : HeadRules, optional
        Whether a head may be new, and how its classes are called; else it must be trained.

    Returns
    -------
    Candidate

    Raises
    ------
    DataError
        When the checkpoint, its tokenizer or its label names are missing, damaged, or of a kind
        that is not supported, or when nobody has trained its head and no training follows.
    """
    source, rules = model_folder(model), rules or HeadRules()
    if (source / "candidate.json").is_file():
        return _from_candidate(Candidate.load(source), task, labels, folder, seed, rules)
    described = check_folder(source)
    config = _config(source)
    find_task(task).complete(config, source)
    weights = find_weights(source, trust)
    kind = processor_class(find_task(task).processor)
    tokenizer = read_tokenizer(source) if issubclass(kind, TextProcessor) else None
    reason = new_head(untrained(described, task, weights.shapes, source), source.name, task, rules)
    if reason is None:
        names = renamed(class_names(described), rules.renaming) if find_task(task).labelled else ()
    else:
        names = labels_of_new(task, labels)
    module = _module(source, task, config, names, weights.pickle, reason is not None, seed)
    if tokenizer is not None:
        _check_vocabulary(model, tokenizer, module)
    save_module(module, folder / "model")
    if tokenizer is not None:
        write_tokenizer(tokenizer, module, folder / "preprocessor")
    elif kind.needs_files:
        kind.copy_files(source, folder / "preprocessor")
    if kind.needs_files:
        find_task(task).take_files(source, folder / "preprocessor")
    preprocessor = folder / "preprocessor" if kind.needs_files else None
    made = Candidate(TorchModel(folder / "model"), preprocessor, task, names)
    if names:
        check_names(made, module, labels, rules)
    return made


def _from_candidate(
    candidate: Candidate,
    task: str,
    labels: Sequence[str] | None,
    folder: Path,
    seed: int,
    rules: HeadRules,
) -> Candidate:
    """Copy a candidate of the task, or take the body of one of another task."""
    if lacks_files(task, candidate.preprocessor):
        raise DataError("this candidate has no tokenizer")
    other = f"it answers {candidate.task}, not {task}" if candidate.task != task else None
    place = candidate.model.directory.parent.name
    if new_head(other, place, task, rules) is not None:
        names = labels_of_new(task, labels)
        made = for_task(candidate, task, names, folder, seed)
    elif isinstance(candidate.model, TorchModel):
        names = renamed(candidate.labels, rules.renaming)
        shutil.copytree(candidate.model.directory, folder / "model")
        made = replace(candidate, model=TorchModel(folder / "model"), steps=(), labels=names)
    else:
        raise DataError("a teacher must be a PyTorch model; this candidate is ONNX")
    if candidate.preprocessor is not None:
        shutil.copytree(candidate.preprocessor, folder / "preprocessor")
        made = replace(made, preprocessor=folder / "preprocessor")
    if made.labels:
        module = load_module(made.model)
        check_names(made, module, labels, rules)
        if made.labels != candidate.labels and made.task == candidate.task:
            _name_classes(module.config, made.labels)
            save_module(module, folder / "model")
    return made


def _config(source: Path) -> Any:
    from transformers import AutoConfig

    register_models()
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"no configuration that can be read for the teacher {source.name!r} "
            f"({_short(error)}); give a directory or a hub id of a model that transformers knows"
        ) from None
    return config


def _module(
    source: Path,
    task: str,
    config: Any,
    names: tuple[str, ...],
    pickle: bool,
    fresh: bool,
    seed: int,
) -> Any:
    import transformers

    if (source / "surgery.json").is_file():
        cut = load_module(TorchModel(source))
        if names and not fresh:
            _name_classes(cut.config, names)
        return with_head(cut, task, names, seed) if fresh else cut
    if names:
        _name_classes(config, names)
    head = find_task(task).head_class(config)
    if head is None:
        raise DataError(f"models of the type {config.model_type!r} have no head for {task}")
    before = transformers.logging.get_verbosity()
    # It reports a new head as a fault; here it is expected.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()  # transformers 5 draws one for every file it reads
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module, report = head.from_pretrained(  # type: ignore[attr-defined]
                source,
                config=config,
                trust_remote_code=False,
                use_safetensors=None if pickle else True,
                ignore_mismatched_sizes=fresh,
                attn_implementation="eager",
                dtype=torch.float32,
                output_loading_info=True,
            )
            if (
                fresh
                and names
                and next(iter(config.architectures or ()), "").endswith(head_names())
            ):
                _renew_head(module)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, *UNREADABLE) as error:
        raise DataError(
            f"the weights of the teacher {source.name!r} cannot be read ({_short(error)}); they "
            "must be safetensors that fit config.json (a pickle needs `trust: pickle`)"
        ) from None
    finally:
        transformers.logging.set_verbosity(before)
    _check_loaded(source.name, module, report, fresh)
    read_record(module, source)
    return module.eval()


def _name_classes(config: Any, names: Sequence[str]) -> None:
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}


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
    deviation = getattr(module.config, "initializer_range", USUAL_DEVIATION)
    for name, part in module.named_modules():
        outside = not name.startswith(module.base_model_prefix)
        if outside and isinstance(part, torch.nn.Linear):
            part.weight.data.normal_(0.0, deviation)
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
