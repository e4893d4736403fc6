"""All commands: in which group of the help each stands, in which module, and what one gets."""

from __future__ import annotations

GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Make a small model": {
        "compress": (
            "compress",
            "Make a model small on your own data; no recipe is needed.",
        ),
        "run": (
            "recipes",
            "Follow a recipe, and get the best model that keeps its budget, as a bundle with a "
            "report.",
        ),
        "check": (
            "recipes",
            "Find the mistakes in a recipe before anything is run, and see what would be run.",
        ),
        "stages": (
            "recipes",
            "See what a recipe can do: all stages, or the fields of one.",
        ),
        "schema": (
            "recipes",
            "Get the JSON Schema of recipes, with which an editor completes and checks them.",
        ),
    },
    "Make it step by step": {
        "finetune": (
            "one_stage",
            "Get a PyTorch model that is trained on your labelled data.",
        ),
        "distil": (
            "one_stage",
            "Get a small PyTorch model that a large one has taught to answer as it does.",
        ),
        "prune": (
            "one_stage",
            "Get a PyTorch model with fewer heads, neurons or layers.",
        ),
        "trim": (
            "one_stage",
            "Get a PyTorch model with a smaller vocabulary: what your texts need.",
        ),
        "factorize": (
            "one_stage",
            "Get a PyTorch model with products of two small matrices in place of large ones.",
        ),
        "export": (
            "one_stage",
            "Get an ONNX file from a PyTorch model, and the proof that it answers alike.",
        ),
        "quantize": (
            "one_stage",
            "Get a model in int8, or in 4 or 16 bits.",
        ),
    },
    "Measure": {
        "evaluate": (
            "measure",
            "See how often a model is right on your data, and how far it is from its teacher.",
        ),
        "profile": (
            "measure",
            "See how large and how fast a model is, here or on a board.",
        ),
        "sensitivity": (
            "measure",
            "See which layers lose most when they are quantized.",
        ),
        "targets": (
            "targets",
            "List the machines that can be measured on, check them, and set them up.",
        ),
    },
    "Deploy": {
        "predict": (
            "predict",
            "Get a bundle's answers to what you type, or to a file.",
        ),
        "serve": (
            "serve",
            "Get a bundle's answers over HTTP.",
        ),
        "image": (
            "image",
            "Get a container image that answers with a bundle.",
        ),
    },
    "Look after": {
        "bundle": (
            "bundle",
            "Verify, show, compare, pack, unpack and sign bundles.",
        ),
        "reproduce": (
            "reproduce",
            "Make a bundle again by its own recipe, and see whether every byte is the same.",
        ),
    },
}
"""By group and command: the module here, and the sentence of the help.

They stand here and not in the commands, so that the help imports none of those.
"""

ALSO_CALLED: dict[str, tuple[str, ...]] = {
    "compress": ("optimize", "shrink", "auto"),
    "run": ("start", "execute"),
    "check": ("validate", "lint", "dry-run"),
    "finetune": ("train",),
    "distil": ("teach",),
    "trim": ("vocabulary", "tokenizer"),
    "factorize": ("low-rank", "svd"),
    "export": ("convert", "onnx"),
    "quantize": ("int8", "int4", "fp16"),
    "evaluate": ("test", "score", "accuracy"),
    "profile": ("benchmark", "time", "latency", "measure"),
    "targets": ("devices", "boards"),
    "predict": ("infer", "inference", "answer", "ask"),
    "serve": ("http", "api", "server"),
    "image": ("docker", "container", "build"),
    "bundle show": ("info", "inspect"),
    "--help": ("help", "ls", "commands"),
    "--version": ("version",),
}
"""What others call a command: who types that is told its name here."""
