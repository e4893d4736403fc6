"""Measuring models: how well they answer, and how large and fast they are on every target."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from edgecompress.api.arguments import StrPath, StrPaths, reporting, several
from edgecompress.api.measurements import Evaluation, ModelProfile, Profile, Sensitivity
from edgecompress.api.options import DataOptions, takes_data
from edgecompress.engine.single import evaluate_one, observe_one, profile_models
from edgecompress.errors import ArgumentError, DataError, EdgeCompressError
from edgecompress.onnx_folders import onnx_model_at
from edgecompress.writing import replace_file


@takes_data
def evaluate(
    model: StrPath,
    *,
    split: Literal["validation", "test"] = "validation",
    teacher: StrPath | None = None,
    **options: Any,
) -> Evaluation:
    """Measure how often `model` is right, on the data of a recipe or of files.

    Parameters
    ----------
    model : path or str
        A bundle, a directory of Hugging Face's form or one that edgecompress wrote, or an .onnx
        file.
    split : {"validation", "test"}
        On which split of the data.
    teacher : path or str, optional
        A model to compare with: how often both agree, and how much is lost against it.
    DATA

    Returns
    -------
    Evaluation

    Raises
    ------
    EdgeCompressError
        When there is no data, or the model cannot answer.
    """
    data = DataOptions(**options)
    recipe = data.build(model, teacher=teacher)
    with reporting(data.progress) as reporter:
        found, floor = evaluate_one(recipe, data.store_path, reporter, split)
    return Evaluation(os.fspath(model), split, found, floor)


@takes_data
def profile(
    models: StrPaths,
    *,
    target: str | tuple[str, ...] = (),
    targets: StrPath | None = None,
    threads: int | tuple[int, ...] = (),
    affinity: int | tuple[int, ...] = (),
    arena: Literal["on", "off", "both"] | None = None,
    batch: int | tuple[int, ...] = (),
    min_duration_ms: float | None = None,
    any_governor: bool = False,
    operators: bool = False,
    size: Mapping[str, int] | None = None,
    bound: Mapping[str, int | tuple[int, int]] | None = None,
    inputs: StrPath | None = None,
    compare: bool = False,
    teacher: StrPath | None = None,
    **options: Any,
) -> Profile:
    """Measure size, latency, memory and more of models, on every target.

    Parameters
    ----------
    models : path or sequence of paths
        Bundles, directories that edgecompress wrote, or any ONNX files.
    target : str or sequence of str
        Where to measure: a name of the fleet, or a URL that `targets list` shows. Left out, it is
        this machine.
    targets : path, optional
        File that names targets. Left out, it is the targets.yaml of this folder or of your
        configuration.
    threads : int or sequence of int
        Numbers of threads to measure with, one after the other; the first stands for the model.
    affinity : int or sequence of int
        Numbers of the cores that the model is bound to.
    arena : {"on", "off", "both"}, optional
        Whether the runtime keeps freed memory for itself. Left out, it does.
    batch : int or sequence of int
        Also measure how many inputs a second are answered, so many at once.
    min_duration_ms : float, optional
        Measure times for at least so long (on the command line with its unit, such as 10s).
    any_governor : bool
        Accept times although the frequency governor is another than performance.
    operators : bool
        Also say which operators took the time.
    size : mapping of str to int, optional
        Size of an axis that the graph leaves open, by its name there or as INPUT.AXIS.
    bound : mapping of str to bounds, optional
        Values that are made up for this input lie from 0 to below N; with NAME=LOW:HIGH (in Python
        a pair) they begin at LOW.
    inputs : path, optional
        An .npz of arrays to feed, named as the inputs; 0/NAME, 1/NAME and so on for several items.
    compare : bool
        Measure two models in turn, inference by inference, and give the ratio of their times.
    teacher : path or str, optional
        A model to compare with: how much faster than its export.
    DATA

    Returns
    -------
    Profile
        A model that cannot be measured, of several, is no error: its part says why.

    Raises
    ------
    ArgumentError
        When `compare` is given with another number of models than two, or with a teacher.
    EdgeCompressError
        When something that all models share is at fault.
    """
    named = [os.fspath(model) for model in several(models)]
    if compare and len(named) != 2:
        raise ArgumentError(f"--compare takes two models, not {len(named)}")
    if compare and teacher:
        raise ArgumentError("--compare and --teacher both name what to compare with; give one")
    for model in named:
        _check_model(Path(model))
    said: dict[str, Any] = {
        "targets": list(dict.fromkeys(several(target))),
        "fleet": _absolute(targets),
        "profile.threads": list(several(threads)),
        "profile.affinity": list(several(affinity)),
        "profile.batches": list(several(batch)),
        "profile.arena": arena,
        "profile.min_duration_ms": min_duration_ms,
        "profile.any_governor": any_governor,
        "profile.operators": operators,
        "profile.inputs.sizes": size,
        "profile.inputs.bounds": bound,
        "profile.inputs.file": _absolute(inputs),
    }
    more = {name: value for name, value in said.items() if value}
    data = DataOptions(**options)
    recipes = [data.build(model, teacher=teacher, more=more) for model in named]
    with reporting(data.progress) as reporter:
        found = profile_models(recipes, data.store_path, reporter, compare=compare)
    names = [" against ".join(reversed(named))] if compare else named
    reference = Path(named[0]).name if compare else None
    return Profile(
        tuple(
            ModelProfile(name, (), one, reference)
            if isinstance(one, EdgeCompressError)
            else ModelProfile(name, one, None, reference)
            for name, one in zip(names, found, strict=True)
        )
    )


@takes_data
def sensitivity(
    model: StrPath,
    *,
    output: StrPath | None = None,
    compare: StrPath | None = None,
    data: StrPath | None = None,
    preprocessor: StrPath | None = None,
    samples: int = 64,
    parts: Literal["all", "layers", "weights", "activations"] = "all",
    layer: str | tuple[str, ...] = (),
    activations: Literal["dynamic", "static"] = "dynamic",
    reduce_range: bool = False,
    per_tensor: bool = False,
    time: bool = False,
    top: int = 20,
    **options: Any,
) -> Sensitivity:
    """Measure what quantizing each layer of the fp32 `model` costs, and name the culprits.

    Each weight, input and table is rounded alone, and the outputs are compared with fp32: on a
    sample of the validation data with `recipe`, else on `data` or made-up inputs.

    Parameters
    ----------
    model : path
        An ONNX file, a bundle, or a directory that edgecompress wrote.
    output : path, optional
        Folder for sensitivity.json and sensitivity.html.
    compare : path, optional
        The quantized form of the model: both are compared tensor by tensor, in the graph's order.
    data : path, optional
        What to run the model on in place of validation examples: an .npz with an array for each
        input, a folder of .npz, .npy or images, or texts (.txt, .csv, .tsv, .jsonl, .parquet).
    preprocessor : path, optional
        Folder with the tokenizer of `data`, or its preprocessor_config.json.
    samples : int
        How many examples or inputs.
    parts : {"all", "layers", "weights", "activations"}
        What is rounded: whole layers, weights alone, inputs of layers alone, or all of these.
    layer : str or sequence of str
        Measure this layer or weight only.
    activations : {"dynamic", "static"}
        How the inputs of layers get their ranges: as they come, or fixed beforehand.
    reduce_range : bool
        Round weights to 7 bits, as x86 without VNNI needs it.
    per_tensor : bool
        Use one scale for a whole weight.
    time : bool
        Also time what each layer's int8 saves.
    top : int
        Lines of the table that are printed.
    DATA

    Returns
    -------
    Sensitivity

    Raises
    ------
    EdgeCompressError
        When the model is no ONNX model in fp32, or the data are at fault.
    """
    from edgecompress.stages.sensitivity import Sensitivity as Observer

    said = DataOptions(**options)
    recipe = said.build(model)
    observer = Observer(
        inputs=os.fspath(data) if data else None,
        preprocessor=os.fspath(preprocessor) if data and preprocessor else None,
        samples=samples,
        activations=activations,
        parts=parts,
        layers=several(layer),
        time=time,
        reduce_range=reduce_range,
        per_channel=not per_tensor,
        compare=os.fspath(compare) if compare else None,
    )
    name = Path(str(recipe.fields.model)).name
    title, what = f"sensitivity of {name}", "errors measured"
    if compare:
        title, what = f"comparing {name} with {Path(compare).name}", "tensors compared"
    with reporting(said.progress) as reporter:
        reporter.begin(title)
        found = observe_one(recipe, observer, said.store_path, reporter)
        reporter.end(f"{len(found)} {what}")
    if output is not None:
        _write(observer.files(name, found), Path(output))
    return Sensitivity(observer.document(name, found), top)


def _write(files: Mapping[str, str], output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            replace_file(output / name, text)
    except OSError as error:
        raise EdgeCompressError(f"{output} cannot be written ({error.strerror})") from None


def _absolute(place: StrPath | None) -> str | None:
    return str(Path(place).absolute()) if place else None


def _check_model(model: Path) -> None:
    """See that a model is there, before anything is measured; hub ids are for other commands."""
    if not model.exists():
        raise DataError("there is no such model", file=model)
    known = ("candidate.json", "manifest.json", "config.json")
    if onnx_model_at(model) is not None:
        return
    if model.is_dir() and not any((model / name).is_file() for name in known):
        graphs = sorted(path.name for path in model.glob("*.onnx"))
        advice = f"; name {graphs[0]} in it" if graphs else ""
        raise DataError(f"neither a bundle nor a candidate's directory{advice}", file=model)
