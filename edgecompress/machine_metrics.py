"""The metrics of machines and files, and of answers compared: all that no task declares.

They stand apart from what a metric is, so that another one here makes no trained model out of date.
"""

from __future__ import annotations

from edgecompress.metrics import ANSWERS, Metric

MACHINES: tuple[Metric, ...] = (
    Metric("agreement", "Agreement with the teacher", "share of answers equal to the teacher's",
           higher_is_better=True, needs=ANSWERS),
    Metric("host_difference", "Answers unlike the host's",
           "share of answers that differ from those of the machine that ran the recipe",
           needs=ANSWERS),
    Metric("size", "Size", "all files of the model, external data included", "bytes",
           best="smallest", compared=True),
    Metric("download_size", "Compressed download", "the same, compressed", "bytes",
           best="smallest download", phrase="{value} as a compressed download", compared=True),
    Metric("compression", "Compression against onnx-fp32",
           "the size of `onnx-fp32` over this one's", "x", higher_is_better=True,
           phrase="{reference} is {value} as large", compared=True),
    Metric("parameters", "Parameters", "weights of the model", "count",
           phrase="{value} parameters"),
    Metric("latency_p50", "Latency p50",
           "one inference, encoded inputs of real lengths: the median", "ms", needs="latency",
           short="p50", best="fastest", headline=True, compared=True),
    Metric("latency_p90", "Latency p90", "nine of ten inferences take no longer", "ms",
           needs="latency", short="p90"),
    Metric("latency_p99", "Latency p99", "99 of 100 inferences take no longer", "ms",
           needs="latency", short="p99"),
    Metric("end_to_end_p50", "Latency p50, the whole way",
           "the median of one example from what a person gives to the answer: rows made (tokens, "
           "pixels, a spectrum), the model run, the answer read; on a board the tokenizer and the "
           "model", "ms", needs="latency", short="p50, whole way", best="fastest"),
    Metric("first_token", "Time to the first token",
           "a language model reads a prompt and gives the token behind it; slice `context:128` "
           "with the prompt's tokens", "ms", needs="latency", bounded=False),
    Metric("token_rate", "Tokens a second",
           "tokens that a language model gives one by one behind so many that it has read; slice "
           "`context:128`", "1/s", higher_is_better=True, needs="latency", bounded=False),
    Metric("real_time_factor", "Real-time factor",
           "the time of inferences over that of the sounds that they hear, without their spectrum: "
           "below 1 is faster than people speak", "x", needs="latency"),
    Metric("throughput", "Throughput", "examples a second in the offline scenario; slice `batch:8`",
           "1/s", higher_is_better=True, needs="latency", bounded=False),
    Metric("speedup", "Speedup over onnx-fp32",
           "time of `onnx-fp32` over this one's, from an interleaved pair", "x",
           higher_is_better=True, needs="latency", short="Faster",
           phrase="{value} as fast as {reference}", headline=True, compared=True),
    Metric("end_to_end_speedup", "Speedup over onnx-fp32, the whole way",
           "time of `onnx-fp32` over this one's, both as in `end_to_end_p50`", "x",
           higher_is_better=True, needs="latency", short="Faster, whole way",
           phrase="{value} as fast as {reference} with its inputs made and its answer read"),
    Metric("operator_time", "Operator time",
           "time of one type of operator in an inference, by ONNX Runtime's profile; slice "
           "`operator:…`", "ms", needs="latency", bounded=False),
    Metric("harness_overhead", "Cost of the harness itself",
           "what a model that does nothing takes: the harness's own cost", "ms", needs="latency",
           bounded=False, machine=True),
    Metric("load_time", "Load time", "loading the model, in a fresh process", "ms", needs="memory"),
    Metric("first_inference", "First inference",
           "the first inference of a fresh process; an interval from six starts on", "ms",
           needs="memory"),
    Metric("load_memory", "Memory to load it", "rise of resident memory by loading the model",
           "bytes", needs="memory"),
    Metric("peak_memory", "Peak memory", "peak resident memory after inputs up to the longest",
           "bytes", needs="memory", short="Peak mem.", best="lightest in memory", headline=True),
    Metric("memory_rise", "Memory over the bare runtime",
           "the rise of that peak over the bare runtime", "bytes", needs="memory",
           short="Mem. over runtime"),
    Metric("pss", "Proportional memory (PSS)",
           "proportional memory after the run: pages shared with other processes count in parts",
           "bytes", needs="memory"),
    Metric("temperature", "Temperature",
           "the processor after the timing loop, where it can be read", "°C", needs="latency"),
    Metric("energy", "Energy per inference",
           "energy of one inference, idle power included; only where a meter can be read", "mJ",
           needs="energy", headline=True),
    Metric("output_error", "Output error of one part rounded",
           "the squared error of all outputs over their variance in fp32, with one part alone in "
           "integers; slice `both:…`, `weight:…`, `activation:…`, `int8:…` or `int4:…` with the "
           "layer", "relative", bounded=False),
    Metric("signal_to_noise", "Signal to noise of a tensor",
           "how far a tensor of a quantized model lies from its fp32 twin; slice `tensor:…`", "dB",
           higher_is_better=True, bounded=False),
    Metric("instructions", "Instructions per inference",
           "instructions of one inference on an emulated processor, all and by kind (slice "
           "`kind:…`); no cycles", "count", needs="instructions", short="Per inference",
           headline=True),
)  # fmt: skip
"""Every metric that no task declares, in the order in which they are listed: how answers compare,
sizes, times, memory, and what needs a sensor, a meter or an emulator."""
