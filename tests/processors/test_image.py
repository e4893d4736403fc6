"""Images become the arrays that transformers' own processors make of them, or one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image
from transformers.image_utils import load_image

from edgecompress.conformance import check_processor
from edgecompress.errors import DataError
from edgecompress.processors.image import ImageProcessor
from edgecompress.processors.image_settings import TYPES
from edgecompress.values import TensorSpec

LEVEL = 1 / 255


def drawn(height: int, width: int, channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 7 + c) + np.cos(y / 5 * (c + 1)) for c in range(channels)]
    noise = np.random.default_rng(height).normal(0, 20, (height, width, channels))
    return np.clip(np.stack(waves, -1) * 60 + 128 + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Images in every form that people have."""
    folder = tmp_path_factory.mktemp("images")
    turned = Image.Exif()
    turned[0x0112] = 6
    made: dict[str, tuple[Any, dict[str, Any]]] = {
        "wide.png": (Image.fromarray(drawn(150, 200)), {}),
        "tall.jpg": (Image.fromarray(drawn(301, 157)), {}),
        "small.png": (Image.fromarray(drawn(40, 61)), {}),
        "grey.png": (Image.fromarray(drawn(201, 200)[..., 0]), {}),
        "palette.gif": (Image.fromarray(drawn(120, 201)).convert("P"), {}),
        "cmyk.jpg": (Image.fromarray(drawn(130, 101)).convert("CMYK"), {}),
        "rgba.png": (Image.fromarray(drawn(130, 101, 4)), {}),
        "webp.webp": (Image.fromarray(drawn(130, 101)), {}),
        "turned.jpg": (Image.fromarray(drawn(100, 171)), {"exif": turned}),
    }
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return {name: folder / name for name in made}


def theirs(name: str, **fields: Any) -> Any:
    # Since transformers 5 the class without an ending needs torchvision.
    short = f"{name}ImageProcessor"
    return getattr(transformers, f"{short}Pil", getattr(transformers, short))(**fields)


CASES = [(name, {}) for name in TYPES]
CASES += [
    ("ConvNext", {"size": {"shortest_edge": 96}, "crop_pct": 0.9}),
    ("ViT", {"size": {"height": 60, "width": 90}, "resample": 3, "image_mean": [0.1, 0.2, 0.3]}),
    ("EfficientNet", {"rescale_offset": True, "rescale_factor": 1 / 127.5, "do_center_crop": True}),
    ("Detr", {"size": {"shortest_edge": 50, "longest_edge": 70}}),
    ("Yolos", {"size": {"shortest_edge": 50, "longest_edge": 70}}),
    ("RTDetr", {"size": {"height": 60, "width": 90}, "do_normalize": True}),
    ("MobileNetV2", {"do_resize": False, "crop_size": {"height": 64, "width": 48}}),
]


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_arrays_are_those_of_transformers(
    tmp_path: Path, images: dict[str, Path], name: str, fields: dict[str, Any]
) -> None:
    theirs_made = theirs(name, **fields)
    theirs_made.save_pretrained(tmp_path / "whole")
    bare = {"image_processor_type": f"{name}ImageProcessorFast", **fields}
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "preprocessor_config.json").write_text(json.dumps(bare))
    # Since transformers 5 some classes have other defaults, and their files say all of them. What
    # is left out of a file was written by an older one.
    read = ("whole", "bare") if int(transformers.__version__.partition(".")[0]) < 5 else ("whole",)
    ours = [ImageProcessor.load(tmp_path / one) for one in read]
    ImageProcessor.load(tmp_path / "bare")
    for file in images.values():
        with Image.open(file) as opened:
            image = load_image(opened)
        expected = theirs_made(image, return_tensors="np")["pixel_values"][0]
        for one in ours:
            found = one.values(file)
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() <= LEVEL


@pytest.mark.parametrize("name", ["Detr", "Yolos"])
def test_padding_and_its_mask_are_those_of_transformers(
    tmp_path: Path, images: dict[str, Path], name: str
) -> None:
    size = {"shortest_edge": 50, "longest_edge": 80}
    theirs_made = theirs(name, size=size, pad_size={"height": 80, "width": 96})
    theirs_made.save_pretrained(tmp_path)
    ours = ImageProcessor.load(tmp_path)
    for file in images.values():
        with Image.open(file) as opened:
            image = load_image(opened)
        expected, feed = theirs_made(image, return_tensors="np"), ours.feed(file)
        assert np.abs(feed["pixel_values"] - expected["pixel_values"][0]).max() <= LEVEL
        np.testing.assert_array_equal(feed["pixel_mask"], expected["pixel_mask"][0])


def processor(**fields: Any) -> ImageProcessor:
    from edgecompress.processors.image_settings import read_settings

    plain = {"size": 24, "do_normalize": False, **fields}
    return ImageProcessor(read_settings(plain, strict=True), "")


def test_sixteen_bits_are_those_of_eight(tmp_path: Path) -> None:
    """Pillow alone would clip them: nearly all white."""
    values = drawn(30, 40)[..., 0]
    Image.fromarray(values).save(tmp_path / "8.png")
    Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / "16.png")
    eight, sixteen = (processor().values(tmp_path / f"{bits}.png") for bits in (8, 16))
    assert np.abs(eight - sixteen).max() <= LEVEL


@pytest.mark.parametrize("form", ["gif", "webp", "png"])
def test_of_a_moving_picture_the_first_counts(form: str, tmp_path: Path) -> None:
    """The others have other colours, and other lengths of time."""
    first, *others = (Image.new("RGB", (30, 24), colour) for colour in ("red", "lime", "blue"))
    first.save(tmp_path / f"alone.{form}", **({"lossless": True} if form == "webp" else {}))
    options = {"save_all": True, "append_images": others, "duration": [50, 200, 90]}
    options |= {"lossless": True} if form == "webp" else {}
    first.save(tmp_path / f"moving.{form}", **options)
    with Image.open(tmp_path / f"moving.{form}") as moving:
        assert moving.n_frames == 3
    alone, moved = (processor().values(tmp_path / f"{name}.{form}") for name in ("alone", "moving"))
    assert np.array_equal(alone, moved) and moved[0].min() > 0.9 > moved[1].max()


def test_layouts_channels_and_plain_numbers() -> None:
    image = drawn(24, 24)
    plain = processor(do_rescale=False).values(image)
    assert np.array_equal(plain, image.transpose(2, 0, 1).astype(np.float32))
    last = processor(do_rescale=False, data_format="channels_last", do_flip_channel_order=True)
    assert np.array_equal(last.values(image), image[..., ::-1])
    lite = processor(do_rescale=False, do_normalize=True, image_mean=127, image_std=128)
    assert np.allclose(lite.values(image), (image.transpose(2, 0, 1) - 127.0) / 128, atol=1e-6)


def test_the_contract(images: dict[str, Path]) -> None:
    made = processor()
    feeds = [made.feed(images["wide.png"]), made.feed(images["tall.jpg"].read_bytes())]
    check_processor(made, feeds, ["pixel_values"])
    free = processor(do_resize=False)
    with pytest.raises(DataError, match="cannot stand in one batch; set crop_size"):
        free.batch([free.feed(images[name]) for name in images], ["pixel_values"])


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    made, file = processor(), tmp_path / "a.png"
    Image.fromarray(drawn(30, 30)).save(file)
    before = made.values(file)
    Image.fromarray(255 - drawn(30, 31)).save(file)
    assert not np.array_equal(made.values(file), before)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"no image at all", "it is none of PNG, JPEG"),
        (None, "there is no such file"),
        ("half.jpg", "truncated"),
        ("half.png", "not an image that can be read"),
        ("huge.png", "more than the 50,000,000 that are read"),
    ],
)
def test_what_is_no_image_gets_one_sentence(tmp_path: Path, content: Any, said: str) -> None:
    from edgecompress.processors.pictures import check_picture

    file = tmp_path / (content if isinstance(content, str) else "a.jpg")
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "huge.png":
        Image.new("1", (8000, 8000)).save(file)
    elif content is not None:
        Image.fromarray(drawn(100, 100)).save(file)
        file.write_bytes(file.read_bytes()[:-900])
    for read in (processor().values, check_picture):
        with pytest.raises(DataError, match=said) as raised:
            read(file)
        assert str(file) in str(raised.value) and "\n" not in str(raised.value)
        if content is not None:
            with pytest.raises(DataError, match=said):
                read(file.read_bytes())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"image_mean": 0, "image_std": 1}, "size is missing"),
        ({"size": 8}, "image_mean is missing; .*loses 10 points"),
        ({"size": 8, "mean": 0}, "no key 'mean'; did you mean 'image_mean'"),
        ({"size": 0, "do_normalize": False}, "size must be a whole number"),
        ({"size": {"height": 3}, "do_normalize": False}, "size.width must be a whole number"),
        ({"size": 8, "image_mean": [1, 2], "image_std": 1}, "image_mean must be three numbers"),
        ({"size": 8, "image_mean": 0, "image_std": 0}, "image_std must not be 0"),
        ({"size": 8, "do_normalize": False, "resample": "linear"}, "one of nearest, lanczos"),
        ({"size": 8, "do_normalize": "no"}, "do_normalize must be true or false"),
        ({"size": 8, "image_mean": 10**400, "image_std": 1}, "image_mean must be a number"),
        ({"size": 8, "image_mean": 1e29, "image_std": 1e-29}, "so large that no image can be fed"),
        ({"image_processor_type": "DPTImageProcessor"}, "'DPTImageProcessor' is not known here"),
        ({"size": 8, "do_normalize": False, "data_format": "NHWC"}, "channels_first or"),
    ],
)
def test_what_is_described_wrongly(fields: dict[str, Any], said: str) -> None:
    from edgecompress.processors.image_settings import read_settings

    with pytest.raises(DataError, match=said):
        read_settings(fields, strict=True)


@pytest.mark.parametrize(
    ("shape", "settings", "said"),
    [
        (("batch", 3, 32, 32), {"image_mean": 0, "image_std": 1}, None),
        (("batch", 32, 32, 3), {"image_mean": 0, "image_std": 1}, None),
        (("batch", 3, 32, 32), None, "nobody says how images are fed to this graph"),
        (("batch", 3, 32, 32), {"size": 48, "do_normalize": False}, "48 × 48, and the graph takes"),
        (("batch", 16), {"size": 48, "do_normalize": False}, "one input of four axes"),
    ],
)
def test_a_graph_says_what_it_can_say_itself(
    tmp_path: Path, shape: tuple[Any, ...], settings: Any, said: str | None
) -> None:
    spec = TensorSpec("x", "float32", shape)
    if said is not None:
        with pytest.raises(DataError, match=said):
            ImageProcessor.describe(settings, tmp_path, [spec], tmp_path / "made")
        return
    ImageProcessor.describe(settings, tmp_path, [spec], tmp_path / "made")
    made = ImageProcessor.load(tmp_path / "made")
    (array,) = made.batch([made.feed(drawn(50, 70))], ["x"]).values()
    assert array.shape == (1, *shape[1:])
