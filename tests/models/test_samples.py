"""Calibration samples from files: what fits is read in order, what does not is one sentence."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from lookup_models import write_tokenizer

from edgecompress.errors import DataError
from edgecompress.models.samples import open_samples, samples_digest, trim
from edgecompress.values import TensorSpec

IDS = TensorSpec("input_ids", "int64", ("batch", "length"))
MASK = TensorSpec("attention_mask", "int64", ("batch", "length"))
IMAGE = TensorSpec("pixels", "float32", ("batch", 3, 8, 8))
RANDOM = np.random.default_rng(0)


def test_padding_is_cut_off_and_samples_come_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "calib.npz"
    ids = np.array([[5, 6, 0, 0], [0, 7, 8, 9]], np.int32)
    np.savez(file, input_ids=ids, attention_mask=ids > 0, labels=np.zeros(2))
    found = open_samples(file, (IDS, MASK))
    feeds = list(found.feeds())
    assert [feed["input_ids"].tolist() for feed in feeds] == [[[5, 6]], [[7, 8, 9]]]
    assert all(feed["attention_mask"].all() for feed in feeds)
    assert {array.dtype for feed in feeds for array in feed.values()} == {np.dtype(np.int64)}
    assert found.count() == 2 and found.count(1) == len(list(found.feeds(1))) == 1


def test_a_graph_of_fixed_length_keeps_its_padding() -> None:
    row = {"input_ids": np.array([1, 2, 0]), "attention_mask": np.array([1, 1, 0])}
    fixed = tuple(TensorSpec(s.name, s.dtype, ("batch", 3)) for s in (IDS, MASK))
    cut = trim(row, (IDS, MASK))
    assert cut is not None and cut["input_ids"].tolist() == [1, 2]
    assert trim(row, fixed) is row


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("compressed", [False, True])
def test_images_as_arrays(tmp_path: Path, order: str, compressed: bool) -> None:
    arrays = RANDOM.standard_normal((5, 3, 8, 8))
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", pixels=np.asarray(arrays, order=order))
    feeds = list(open_samples(tmp_path / "a.npz", (IMAGE,)).feeds())
    assert feeds[0]["pixels"].dtype == np.float32
    given = np.concatenate([f["pixels"] for f in feeds])
    assert np.array_equal(given, arrays.astype(np.float32))


def test_a_folder_holds_single_samples_and_batches(tmp_path: Path) -> None:
    arrays = RANDOM.standard_normal((4, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "0.npy", arrays[0])
    np.savez(tmp_path / "1.npz", pixels=np.asfortranarray(arrays[1]))
    np.save(tmp_path / "2.npy", arrays[2:])
    found = open_samples(tmp_path, (IMAGE,))
    assert found.count() == 4
    assert np.array_equal(np.concatenate([f["pixels"] for f in found.feeds()]), arrays)


def test_a_fixed_batch_is_filled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(10, dtype=np.float32).reshape(5, 2))
    spec = TensorSpec("x", "float32", (2, 2))
    found = open_samples(tmp_path / "a.npy", (spec,))
    assert [feed["x"].shape for feed in found.feeds()] == [(2, 2), (2, 2)]
    assert found.count() == 4
    with pytest.raises(DataError, match="there are 5 samples, and the graph takes 8 at a time"):
        open_samples(tmp_path / "a.npy", (TensorSpec("x", "float32", (8, 2)),))


def test_texts_are_encoded_by_the_tokenizer(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer", ("sannu", "kano"))
    (tmp_path / "a.txt").write_text("sannu kano\n\nkano\n", encoding="utf-8")
    (tmp_path / "a.csv").write_text('label,text\n1,"sannu kano"\n0,kano\n', encoding="utf-8")
    wanted = [[[2, 4, 5, 3]], [[2, 5, 3]]]
    for name in ("a.txt", "a.csv"):
        found = open_samples(tmp_path / name, (IDS, MASK), tmp_path / "tokenizer")
        assert [feed["input_ids"].tolist() for feed in found.feeds()] == wanted
        assert found.count() == 2
    fixed = tuple(TensorSpec(s.name, s.dtype, ("batch", 6)) for s in (IDS, MASK))
    padded = list(open_samples(tmp_path / "a.txt", fixed, tmp_path / "tokenizer").feeds())
    assert padded[1]["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0]]
    past = TensorSpec("past_key_values.0.key", "float32", ("batch", 2, "past", 4))
    with pytest.raises(DataError, match=r"past_key_values\.0\.key cannot be made of a text"):
        list(open_samples(tmp_path / "a.txt", (IDS, past), tmp_path / "tokenizer").feeds())
    with pytest.raises(DataError, match="texts need a tokenizer"):
        open_samples(tmp_path / "a.txt", (IDS, MASK))
    (tmp_path / "b.tsv").write_text("a\tb\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'text' among 'a', 'b'"):
        open_samples(tmp_path / "b.tsv", (IDS,), tmp_path / "tokenizer")


def test_images_are_read_or_refused_with_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    found = open_samples(tmp_path, (IMAGE,))
    with pytest.raises(DataError, match=r"pip install pillow|not an image"):
        list(found.feeds())
    with pytest.raises(DataError, match="can be fed to a graph with one input"):
        list(open_samples(tmp_path, (IDS,)).feeds())
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(DataError, match="both arrays and images"):
        open_samples(tmp_path, (IMAGE,))


def test_images_are_resized_and_normalised(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    image.new("RGB", (20, 10), (255, 0, 0)).save(tmp_path / "a.png")
    (feed,) = open_samples(tmp_path, (IMAGE,)).feeds()
    assert feed["pixels"].shape == (1, 3, 8, 8)
    red = (1 - 0.485) / 0.229
    assert np.allclose(feed["pixels"][0, :, 4, 4], [red, -0.456 / 0.224, -0.406 / 0.225], atol=1e-5)
    folder = tmp_path / "config"
    folder.mkdir()
    config = '{"size": {"shortest_edge": 8}, "do_center_crop": true, "crop_size": 8,'
    config += ' "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}'
    (folder / "preprocessor_config.json").write_text(config, encoding="utf-8")
    (feed,) = open_samples(tmp_path, (IMAGE,), folder).feeds()
    assert feed["pixels"].shape == (1, 3, 8, 8)
    assert np.allclose(feed["pixels"][0, :, 4, 4], [1, 0, 0])


@pytest.mark.parametrize("size", [(9000, 9000), (16_000, 16_000), (2**31 - 1, 1)])
def test_images_that_claim_many_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    """Some are beyond our bound, others beyond Pillow's own."""
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    head = b"IHDR" + struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT")
    with pytest.raises(DataError, match=r"a\.png: .* more than the 50,000,000"):
        list(open_samples(tmp_path, (IMAGE,)).feeds())


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"input_ids": np.ones((2, 4), np.int64)},
         r"no array attention_mask; the model takes input_ids \(int64 batch × length\), att.*, "
         "and the file has input_ids$"),
        ({"input_ids": np.ones((2, 4), np.int64), "attention_mask": np.ones((3, 4), np.int64)},
         "differ in their number of samples: input_ids has 2, attention_mask has 3"),
        ({"input_ids": np.ones((2, 4)), "attention_mask": np.ones((2, 4), np.int64)},
         r"input_ids has another type: the model wants input_ids \(int64 batch × length\), and the "
         "array is float64 2 × 4"),
        ({"input_ids": np.ones((2, 4, 1), np.int64), "attention_mask": np.ones((2, 4), np.int64)},
         "input_ids does not fit: .* and the array is int64 2 × 4 × 1"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=said):
        open_samples(tmp_path / "a.npz", (IDS, MASK))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, pixels=np.ones((2, 3, 9, 8), np.float32))
    with pytest.raises(DataError, match=r"pixels does not fit: .* 3 × 8 × 8.* 2 × 3 × 9 × 8"):
        open_samples(file, (IMAGE,))
    np.savez(file, pixels=np.ones((2, 3, 8, 8), np.uint8))
    with pytest.raises(DataError, match="is uint8 2 × 3 × 8 × 8; scale it as in training"):
        open_samples(file, (IMAGE,))
    np.savez(file, pixels=np.array([object()]))
    with pytest.raises(DataError, match=r"a\.npz: array pixels holds Python objects"):
        open_samples(file, (IMAGE,))
    whole = tmp_path / "b.npy"
    np.save(whole, np.ones((2, 3, 8, 8), np.float32))
    whole.write_bytes(whole.read_bytes()[:-8])
    with pytest.raises(DataError, match="array b is cut off"):
        list(open_samples(whole, (IMAGE,)).feeds())
    file.write_bytes(b"PK no zip")
    with pytest.raises(DataError, match=r"not an \.npz file"):
        open_samples(file, (IMAGE,))
    with pytest.raises(DataError, match=r"no such calibration data; give an \.npz"):
        open_samples(tmp_path / "none.npz", (IMAGE,))
    with pytest.raises(DataError, match=r"/dev/zero: is neither a file nor a folder"):
        open_samples(Path("/dev/zero"), (IMAGE,))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no calibration data"):
        open_samples(tmp_path / "empty", (IMAGE,))
    np.savez(file, input_ids=np.ones((1, 3), np.int64), attention_mask=np.zeros((1, 3), np.int64))
    with pytest.raises(DataError, match="sample 1 is all padding"):
        list(open_samples(file, (IDS, MASK)).feeds())


def test_the_digest_is_of_what_the_files_hold(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", np.ones(3))
    assert samples_digest(tmp_path / "a") == samples_digest(tmp_path / "b")
    np.save(tmp_path / "b" / "x.npy", np.zeros(3))
    assert samples_digest(tmp_path / "a") != samples_digest(tmp_path / "b")


def test_what_an_array_must_be_is_said_with_its_batch(tmp_path: Path) -> None:
    frames = TensorSpec("frames", "float32", ("sequence_length", 16))
    state = TensorSpec("state", "float32", (1, 1, 8))
    np.savez(
        tmp_path / "a.npz", frames=np.ones((1, 4, 16), np.float32), state=np.ones((1, 1, 1, 8))
    )
    with pytest.raises(DataError, match=r"array is float32 1 × 4 × 16; .* each 1 × 16 or without"):
        list(open_samples(tmp_path, (frames, state)).feeds())
