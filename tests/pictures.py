"""Small images of three colours, and a graph that tells the colours apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from edgecompress.values import Example

COLOURS = ("blue", "green", "red")
SIDE = 32


def picture(label: str, random: np.random.Generator, height: int = 40, width: int = 48):
    """Give uint8 (height, width, 3), in which one channel is brighter than the others."""
    values = random.integers(0, 120, (height, width, 3))
    values[..., 2 - COLOURS.index(label)] += 100
    return values.astype(np.uint8)


def pictures_of_colours(count: int, seed: int = 0) -> tuple[Example, ...]:
    """Give so many examples of each colour, as arrays."""
    random = np.random.default_rng(seed)
    return tuple(
        Example({"image": picture(label, random)}, label) for label in COLOURS for _ in range(count)
    )


def write_folder(folder: Path, count: int = 6, seed: int = 0) -> Path:
    """Write images into a folder for each colour."""
    from PIL import Image

    random = np.random.default_rng(seed)
    for label in COLOURS:
        (folder / label).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(picture(label, random))
            image.save(folder / label / f"{number}.{('png', 'jpg')[number % 2]}")
    return folder


def write_graph(file: Path, *, channels_last: bool = False, batch: str | int = "batch") -> Path:
    """Write convolutions whose three answers are how blue, green and red an image is."""
    random = np.random.default_rng(1)
    first = np.zeros((8, 3, 3, 3), np.float32)
    for place in range(8):
        first[place, place % 3] = random.uniform(0.1, 0.14, (3, 3))
    depthwise = random.uniform(0.1, 0.13, (8, 1, 3, 3)).astype(np.float32)
    last = np.zeros((3, 8), np.float32)
    for place in range(8):
        last[2 - place % 3, place] = 6.0 / (3 if place % 3 < 2 else 2)
    weights = {
        "first": first,
        "first_bias": random.uniform(-0.01, 0.01, 8).astype(np.float32),
        "depthwise": depthwise,
        "depthwise_bias": np.zeros(8, np.float32),
        "last": last,
        "last_bias": np.zeros(3, np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
    }
    shape = [batch, SIDE, SIDE, 3] if channels_last else [batch, 3, SIDE, SIDE]
    nodes = [] if not channels_last else [
        helper.make_node("Transpose", ["image"], ["moved"], perm=[0, 3, 1, 2])
    ]  # fmt: skip
    nodes += [
        helper.make_node(
            "Conv", ["moved" if channels_last else "image", "first", "first_bias"], ["a"],
            "stem", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
        ),
        helper.make_node("Clip", ["a", "low", "high"], ["b"], "six"),
        helper.make_node(
            "Conv", ["b", "depthwise", "depthwise_bias"], ["c"],
            "depth", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8,
        ),
        helper.make_node("Relu", ["c"], ["d"], "rectified"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "last", "last_bias"], ["scores"], "head", transB=1),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return file
