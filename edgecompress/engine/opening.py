"""What every chain starts from: the teacher and the model of a recipe, opened or made."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from edgecompress.checkpoint import folder_digests, has_tokenizer, read_object
from edgecompress.engine.given_models import (
    check_sections,
    check_start,
    folders_of,
    label_names,
    model_head,
    teacher_head,
)
from edgecompress.engine.pipeline import Pipeline
from edgecompress.engine.recipe import TeacherSpec
from edgecompress.errors import DataError, EdgeCompressError
from edgecompress.hub import at_hand, model_folder
from edgecompress.models.graph import graph_facts, graph_input, load_graph, signature
from edgecompress.models.runner import open_onnx
from edgecompress.onnx_files import model_digests
from edgecompress.onnx_folders import OURS, USUAL, onnx_model_at
from edgecompress.processors import Processor, TextProcessor, processor_class
from edgecompress.provenance import code_digest, library_versions
from edgecompress.reading import at_home
from edgecompress.tasks import task as find_task
from edgecompress.training.heads import HeadRules, class_names, renamed, untrained
from edgecompress.training.teachers import model_identity
from edgecompress.values import (
    Candidate,
    Json,
    OnnxModel,
    Step,
    TorchModel,
    file_digest,
    json_digest,
)


def open_start(pipeline: Pipeline) -> Candidate:
    """Open ``model`` where the recipe names it, else the teacher, which the pipeline remembers."""
    recipe = pipeline.recipe
    if recipe.fields.teacher is not None:
        pipeline.teacher = _open_teacher(pipeline, recipe.fields.teacher)
    model = recipe.fields.model
    if model is None:
        if pipeline.teacher is None:
            raise EdgeCompressError("this recipe names neither a teacher nor a model")
        return pipeline.teacher
    path = at_hand(model)
    spec = TeacherSpec(model=model, labels=recipe.fields.labels)
    own = next((one for one in OURS if (path / one).is_file()), None)
    if own is not None and recipe.fields.preprocessor is not None:
        what = "this model says itself how its inputs are made; leave preprocessor out"
        raise DataError(what, file=path / own)
    if (path / "candidate.json").is_file():
        found = Candidate.load(path)
        # Of a model of another task the body goes on, under a head that is trained then.
        other = recipe.fields.task not in (None, found.task)
        if isinstance(found.model, TorchModel) and (other or spec.labels):
            return _imported(pipeline, spec, model_head(recipe))
        check_start(recipe, found, label_names(found.task, pipeline.splits.train))
        return found
    if (path / "manifest.json").is_file():
        from edgecompress.bundle import load_bundle

        return load_bundle(path)
    graph = onnx_model_at(path)
    if graph is not None:
        return _exported(pipeline, path, graph)
    return _imported(pipeline, spec, model_head(recipe))


def _exported(pipeline: Pipeline, folder: Path, graph: OnnxModel) -> Candidate:
    """Take a folder of Optimum's form as what it is: a graph, its classes and its tokenizer.

    Without a task that its configuration has a head for, or without a tokenizer, it is the graph.
    """
    recipe = pipeline.recipe
    task = recipe.fields.task
    kind = processor_class(find_task(task).processor) if task is not None else TextProcessor
    if task is not None and not issubclass(kind, TextProcessor):
        return _described(pipeline, folder, graph, task, kind)
    described = not graph.parts and (folder / "config.json").is_file()
    if task is None or not described or not has_tokenizer(folder):
        return Candidate(graph)
    config = read_object(folder / "config.json")
    if untrained(config, task) is not None:
        return Candidate(graph)
    graph = _joined(pipeline, graph, task)
    module = "edgecompress.training.teacher_tokenizer"
    names = tuple(one.name for one in graph_facts(graph.path).inputs)
    key: Json = {"exported": folder_digests(folder), "inputs": names, "task": task}
    key |= {"code": code_digest(module), "libraries": library_versions(module)}
    key |= {"task code": code_digest(type(find_task(task)).__module__)}
    settings = recipe.fields.preprocessor
    key |= {"settings": settings} if settings is not None else {}

    def build(made: Path, _scratch: Path) -> None:
        from edgecompress.training.teacher_tokenizer import import_tokenizer

        import_tokenizer(folder, names, made / "preprocessor")
        find_task(task).take_files(folder, made / "preprocessor")
        if settings is not None:
            kind.settle(settings, made / "preprocessor")

    place = pipeline.obtain(json_digest(key), build, "the tokenizer")
    classes = class_names(config) if find_task(task).labelled else ()
    labels = renamed(classes, recipe.fields.labels)
    found = Candidate(graph, place / "preprocessor", task, labels)
    check_start(recipe, found, label_names(task, pipeline.splits.train))
    return found


def _joined(pipeline: Pipeline, graph: OnnxModel, task: str) -> OnnxModel:
    """Give a graph whose answers come in several outputs as one that gives them in one."""
    from edgecompress.models.joined import gives, join_outputs

    first = find_task(task).outputs[0]
    if not gives(graph.path, first.apart):
        return graph
    key: Json = {"joined": [first.name, *first.apart], "graph": model_digests(graph)}
    key |= {"code": code_digest(join_outputs.__module__)}

    def build(made: Path, _scratch: Path) -> None:
        (made / "model").mkdir()
        join_outputs(graph.path, first.apart, first.name, made / "model" / USUAL)

    place = pipeline.obtain(json_digest(key), build, "one output of several")
    return replace(graph, path=place / "model" / USUAL)


def _described(
    pipeline: Pipeline, place: Path, graph: OnnxModel, task: str, kind: type[Processor]
) -> Candidate:
    """Take a graph with what the recipe, or the files beside it, say of its inputs and classes."""
    recipe = pipeline.recipe
    source = place if place.is_dir() else place.parent
    file, given = source / "config.json", recipe.fields.labels
    config = read_object(file) if file.is_file() else {}
    labels: tuple[str, ...] = ()
    if find_task(task).labelled:
        if not config.get("id2label") and not isinstance(given, tuple):
            raise DataError(
                "nobody says what the classes of this graph are called; name them in their order "
                "in the recipe (labels: […]), or in a config.json beside it (id2label)",
                file=graph.path,
            )
        known = given if isinstance(given, tuple) else ()
        labels = renamed(class_names(config) if config.get("id2label") else known, given)
        shapes = [graph_input(value).shape for value in load_graph(graph.path).output]
        sizes = {shape[-1] for shape in shapes if shape}
        if (
            find_task(task).outputs[0].kind == "categorical"
            and sizes
            and all(isinstance(size, int) and size != len(labels) for size in sizes)
        ):
            counts = " or ".join(map(str, sorted(sizes, key=str)))
            raise DataError(
                f"{len(labels)} labels are named, and the graph scores {counts} classes; name all "
                "of them, in its order",
                file=graph.path,
            )
    if not kind.needs_files:
        return Candidate(graph, None, task, labels)
    inputs = signature(graph)
    key: Json = {"described": recipe.fields.preprocessor, "code": code_digest(kind.__module__)}
    key |= {"inputs": [asdict(one) for one in inputs]}
    key |= {name: file_digest(source / name) for name in kind.files if (source / name).is_file()}
    answers = find_task(task)
    key |= {"task": code_digest(type(answers).__module__), "labels": list(labels)}
    key |= {"graph": file_digest(graph.path)}

    def build(made: Path, _scratch: Path) -> None:
        folder = made / "preprocessor"
        kind.describe(recipe.fields.preprocessor, source, inputs, folder)
        answers.take_graph(
            graph, lambda: open_onnx(graph), kind.load(folder), labels, made / "model"
        )

    made = pipeline.obtain(json_digest(key), build, "the preprocessor")
    own = made / "model" / "model.onnx"
    taken = OnnxModel(own, graph.session) if own.is_file() else graph
    found = Candidate(taken, made / "preprocessor", task, labels)
    check_start(recipe, found, label_names(task, pipeline.splits.train))
    return found


def _open_teacher(pipeline: Pipeline, spec: TeacherSpec) -> Candidate:
    """Import or make the teacher, and fine-tune it where the recipe says so."""
    check_sections(pipeline.recipe)
    found = _imported(pipeline, spec, teacher_head(pipeline.recipe))
    tuning = pipeline.recipe.teacher_finetune
    return found if tuning is None else pipeline.apply(tuning, found)


def _imported(pipeline: Pipeline, spec: TeacherSpec, rules: HeadRules) -> Candidate:
    """Bring a Hugging Face model or a new one into the store as a candidate.

    `rules` say whether its head may be new.
    """
    recipe, splits = pipeline.recipe, pipeline.splits
    task, seed = recipe.fields.task or "", recipe.fields.seed
    if not task:
        if spec.model:
            model_folder(spec.model, folders_of(recipe))  # is it there at all?
        raise EdgeCompressError(
            f"nothing says what {spec.model} is to answer; name its task (`task` in a recipe, "
            "--task on the command line)"
        )
    labels = label_names(task, splits.train)
    module = "edgecompress.training.teacher"
    key: Json = {"teacher": spec.model_dump(mode="json", exclude={"finetune"}), "task": task}
    key |= {"labels": list(labels), "code": code_digest(module)}
    key |= {"libraries": library_versions(module)}
    key |= {"trained later": rules.trained_later}
    place = model_folder(spec.model, folders_of(recipe)) if spec.model else Path()
    if spec.model:
        key["files"] = model_identity(place)
        key["teacher"].pop("model")
    key |= {"seed": seed}
    settings = recipe.fields.preprocessor
    key |= {"settings": settings} if settings is not None else {}
    if spec.new:
        key |= {"data": dict(splits.digests)}
    digest = json_digest(key)

    def build(folder: Path, _scratch: Path) -> None:
        if spec.new:
            made = spec.new.make(splits.train, task, labels, folder, seed)
            origin = "new"
        else:
            from edgecompress.training.teacher import import_teacher

            model = str(spec.model)
            trusted = spec.trust == "pickle"
            asked = replace(rules, examples=splits.validation)
            made = import_teacher(str(place), task, labels, folder, trusted, seed, asked)
            origin = place.name if at_home(model).is_dir() else model
        if settings is not None and made.preprocessor is not None:
            processor_class(find_task(task).processor).settle(settings, made.preprocessor)
        step = Step("teacher", {"from": origin}, key=digest)
        replace(made, steps=(step,)).save(folder)

    pipeline.reporter.begin("teacher")
    found = Candidate.load(pipeline.obtain(digest, build, "teacher"))
    pipeline.reporter.end("a new one made" if spec.new else f"opened {spec.model}")
    return found
