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
            "Get a PyTorch model with fewer heads, neurons, channels or layers.",
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
        "store": (
            "store",
            "See what earlier runs have left for later ones, and make room.",
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
    "store": ("cache",),
    "--help": ("help", "ls", "commands"),
    "--version": ("version",),
}
"""What others call a command: who types that is told its name here."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "compress": (
        "edgecompress compress sentiment-model --data reviews.csv -o runs/small",
        "edgecompress compress tagger --data words.conll --max-drop 0.5% -o runs/tagger",
        "edgecompress compress model.onnx --data inputs.npz --max-size 25MB -o out",
    ),
    "run": (
        "edgecompress run quickstart -o runs/quickstart",
        "edgecompress run mine.yaml -o runs/mine --set seed=7",
    ),
    "check": ("edgecompress check mine.yaml --set data.root=data",),
    "stages": (
        "edgecompress stages",
        "edgecompress stages quantize.static",
    ),
    "schema": ("edgecompress schema > recipe.schema.json",),
    "finetune": ("edgecompress finetune model --train train.csv --validation dev.csv -o tuned",),
    "distil": ("edgecompress distil small --teacher large --recipe mine.yaml -o taught",),
    "prune": (
        "edgecompress prune model --recipe mine.yaml --set heads=0.25 -o pruned",
        "edgecompress prune model --method layers --recipe mine.yaml --set keep=4 -o shallow",
    ),
    "trim": ("edgecompress trim model --corpus texts.txt --keep 20000 -o trimmed",),
    "factorize": ("edgecompress factorize model --recipe mine.yaml --set embedding=128 -o narrow",),
    "export": (
        "edgecompress export model -o exported",
        "edgecompress export model -o model.onnx",
    ),
    "quantize": (
        "edgecompress quantize model.onnx -o small.onnx",
        "edgecompress quantize model.onnx --scheme static --data inputs.npz -o small.onnx",
        "edgecompress quantize model.onnx --scheme weights --set linear_bits=4 -o small.onnx",
    ),
    "evaluate": (
        "edgecompress evaluate runs/small/bundle --test test.csv --split test",
        "edgecompress evaluate small --teacher large --recipe mine.yaml",
    ),
    "profile": (
        "edgecompress profile model.onnx --target pi4 --threads 1,4 --operators",
        "edgecompress profile bert.onnx --size sequence_length=128 --bound input_ids=30000",
        "edgecompress profile --compare before.onnx after.onnx --min-duration 10s",
    ),
    "sensitivity": (
        "edgecompress sensitivity model.onnx --data inputs.npz -o layers",
        "edgecompress sensitivity model.onnx --compare small.onnx",
    ),
    "targets prepare": ("edgecompress targets prepare emulated://cortex-a72",),
    "predict": (
        'edgecompress predict runs/small/bundle "What a film!"',
        "edgecompress predict runs/small/bundle --input texts.txt --json > answers.jsonl",
    ),
    "serve": ("edgecompress serve runs/small/bundle --port 8000",),
    "image": (
        "edgecompress image runs/small/bundle --tag answers",
        "edgecompress image runs/small/bundle --platform linux/arm64 -o answers.tar",
    ),
    "bundle diff": ("edgecompress bundle diff runs/old/bundle runs/new/bundle --data texts.txt",),
    "bundle pack": ("edgecompress bundle pack runs/small/bundle -o small.tar.zst",),
    "bundle sign": ("edgecompress bundle sign runs/small/bundle --key key.pem",),
    "bundle unpack": ("edgecompress bundle unpack small.tar.zst -o bundle --key public.pem",),
    "bundle verify": ("edgecompress bundle verify runs/small/bundle",),
    "reproduce": ("edgecompress reproduce runs/small/bundle --data-root data",),
    "store prune": ("edgecompress store prune --max-size 10 --keep runs/small --dry-run",),
}
"""By command: lines that somebody may type, as they stand at the end of its help."""
