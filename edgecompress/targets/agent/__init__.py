"""The agent: times models and takes their answers, in a fresh process, on every target.

It travels as one file (`edgecompress.targets.archive`) and needs the standard library, numpy and
onnxruntime; `tokenizers` only when a model of the job names a tokenizer. It imports nothing of
edgecompress but its own package. It judges nothing: raw nanoseconds and bytes go back.

``python agent.pyz FOLDER`` reads ``job.json`` and ``inputs.npz`` there and writes
``outputs-<model>.npz`` (mode ``answers``) and, last of all and renamed into place,
``readings.json``. ``python agent.pyz describe`` says what the machine is, with nothing but the
standard library.

job.json::

    {"mode": "time" | "answers" | "cold" | "operators" | "instructions",
     "threads": 1, "affinity": [], "arena": true, "outputs": ["logits"] | null, "energy": false,
     "warmup_ms": 300, "max_warmup_ms": 3000,
     "min_duration_ms": 2000, "max_duration_ms": 60000, "min_count": 400,
     "models": [{"name": …, "path": "model.onnx" | null, "kind": "onnx", "feeds": 0,
                 "session": {"graph_optimization_level": "all", "disabled_optimizers": [],
                             "config_entries": []},
                 "tokenizer": null | {"path": "tokenizer.json", "max_length": 512}}],
     "texts": ["a text" | ["its", "words"], …]}

A model whose path is null does nothing; its readings are the harness's own cost. Several models
are timed interleaved, inference by inference, over the same inputs, so that a disturbance meets
all of them. An input (`item`) is one example; a long one may be several rows (windows), which are
then run one after the other and timed together.
"""
