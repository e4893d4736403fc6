"""Arrays and images that claim what they do not hold, hold too much, or are no such thing."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fuzzing.case import Case
from fuzzing.mutation import spoilt
from fuzzing.stock import Stock, array_file

HEADERS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 8), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 8), }",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (4, 8), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 8), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4, -1), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 8), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 8), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1" + "0" * 40 + ", 8), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4L, 8L), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': 4, }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (4, 8), }",
    "{'descr': '|S0', 'fortran_order': False, 'shape': (4, 8), }",
    "{'descr': '<U999999999', 'fortran_order': False, 'shape': (4, 8), }",
    "{'descr': '<f16', 'fortran_order': False, 'shape': (4, 8), }",
    "{'descr': '<c8', 'fortran_order': False, 'shape': (4, 8), }",
    "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (4, 8), }",
    "{'descr': [('a', '<f4'), ('b', '<i4')], 'fortran_order': False, 'shape': (4, 8), }",
    "{'descr': '>f4', 'fortran_order': False, 'shape': (4, 8), }",
    "{'descr': 'nonsense', 'fortran_order': False, 'shape': (4, 8), }",
    "{'descr': ['<f4'], 'fortran_order': False, 'shape': (4, 8), }",
    "{'descr': None, 'fortran_order': None, 'shape': None, }",
    "{'descr': '<f4'}", "[]", "", "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 8),",
    "__import__('os')", "(" * 3000, "{'a': 1}" + " " * 20_000, "\x00\xff",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 70 + "), }",
)  # fmt: skip


def raw_array(chance: random.Random, data: bytes | None = None) -> bytes:
    """An .npy file with any header."""
    header = chance.choice(HEADERS).encode("latin-1")
    version = chance.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    size = chance.choice((len(header), len(header), len(header) + 5, 65_535, 0))
    packed = struct.pack("<H", size) if version == b"\x01\x00" else struct.pack("<I", size)
    body = data if data is not None else bytes(chance.choice((0, 128, 127, 4096)))
    return b"\x93NUMPY" + version + packed + header + body


def good_arrays(chance: random.Random, graph: str) -> dict[str, np.ndarray]:
    """Arrays that one of the stock's graphs takes."""
    if graph == "numbers":
        return {"x": np.ones((4, 8), np.float32)}
    if graph == "texts":
        ones = np.ones((4, 6), np.int64)
        return {"input_ids": ones, "attention_mask": ones}
    return {"image": np.ones((2, 3, 12, 12), np.float32)}


def changed_arrays(chance: random.Random, good: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of another name, shape, type or value."""
    name = chance.choice(sorted(good))
    array = good[name]
    floats = np.zeros(array.shape)
    others: tuple[Callable[[], np.ndarray], ...] = (
        lambda: array[..., None], lambda: array[0], lambda: array[:0], lambda: array[..., :0],
        lambda: np.array(3), lambda: array.astype(str), lambda: array.astype(np.complex64),
        lambda: array.astype(np.float64), lambda: array.astype(np.uint8), lambda: array > 0,
        lambda: floats + np.nan, lambda: floats.astype(array.dtype) - 9999, lambda: floats + np.inf,
        lambda: np.asfortranarray(array), lambda: array.astype("datetime64[ns]"),
        lambda: np.zeros((2, *array.shape[1:]), array.dtype), lambda: array.astype(np.float16),
        lambda: np.full(array.shape, 2**40).astype(np.int64), lambda: array.repeat(500, 0),
    )  # fmt: skip
    changed = dict(good)
    changed[name] = chance.choice(others)()
    if chance.random() < 0.3:
        changed[chance.choice(("other", "0/x", "x/0", "é", "a" * 200, "../x"))] = changed.pop(name)
    return changed


def _zip(chance: random.Random, good: dict[str, np.ndarray]) -> tuple[bytes, str]:
    """A zip that is none of numpy's: bombs, other methods, names twice, encrypted."""
    name = chance.choice(sorted(good))
    kept = io.BytesIO()
    what = chance.choice(("bomb", "bomb", "method", "twice", "header", "many", "flag", "size"))
    inner = io.BytesIO()
    np.save(inner, good[name])
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:
        if what == "bomb":
            width = good[name].shape[1:]
            rows = chance.choice((3 * 10**8, 10**9)) // max(int(np.prod(width)) * 4, 1)
            shape = (rows, *width)
            descr = np.lib.format.dtype_to_descr(good[name].dtype)
            head = f"{{'descr': {descr!r}, 'fortran_order': {chance.random() < 0.5}, 'shape': {shape}, }}"  # noqa: E501
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode())
                for _ in range(rows * int(np.prod(width)) * 4 >> 20):
                    member.write(bytes(1 << 20))
        elif what == "header":
            archive.writestr(f"{name}.npy", raw_array(chance))
        elif what == "many":
            for number in range(chance.choice((300, 5000))):
                archive.writestr(f"{number}/{name}.npy", inner.getvalue())
        else:
            method = chance.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED))
            archive.writestr(f"{name}.npy", inner.getvalue(), method)
            if what == "twice":
                archive.writestr(f"{name}.npy", b"nothing", method)
    data = kept.getvalue()
    if what in ("flag", "size", "method"):
        at = data.rfind(b"PK\x01\x02") + {"flag": 8, "size": 24, "method": 10}[what]
        data = data[:at] + chance.choice((b"\x01\x00", b"\xff\xff", b"\x63\x00")) + data[at + 2 :]
    return data, f"zip {what}"


def _array_bytes(chance: random.Random, graph: str, file: Path) -> str:
    good = good_arrays(chance, graph)
    way = chance.random()
    if file.suffix == ".npy":
        kept = io.BytesIO()
        np.save(kept, next(iter(good.values())))
        file.write_bytes(kept.getvalue() if way < 0.5 else raw_array(chance))
        return spoilt(chance, file) if way < 0.5 else "header"
    if way < 0.35:
        file.write_bytes(array_file(**changed_arrays(chance, good)))
        return "other arrays"
    if way < 0.65:
        data, told = _zip(chance, good)
        file.write_bytes(data)
        return told
    file.write_bytes(array_file(**good))
    return spoilt(chance, file)


def arrays(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """Hostile .npz and .npy files for quantize, sensitivity and profile."""
    graph = chance.choice(("numbers", "numbers", "texts", "images"))
    model = str(getattr(stock, graph))
    file = folder / chance.choice(("given.npz", "given.npz", "given.npy"))
    told = _array_bytes(chance, graph, file)
    place = file.name
    if chance.random() < 0.15:
        (folder / "many").mkdir()
        with contextlib.suppress(FileNotFoundError):  # of what was taken away
            file.rename(folder / "many" / file.name)
        place = "many"
    arguments = chance.choice((
        ("quantize", model, "--scheme", "static", "--data", place, "-o", "out"),
        ("quantize", model, "--scheme", "smooth", "--data", place, "-o", "out"),
        ("sensitivity", model, "--data", place, "--parts", "layers", "--samples", "2"),
        ("profile", model, "--inputs", file.name if place != "many" else f"many/{file.name}",
         "--min-duration", "1ms", "--any-governor"),
    ))  # fmt: skip
    return Case(arguments, (file.name, "many", "quantize.smooth can fold nothing"), told)


def _png(width: int, height: int, body: bytes | None = None) -> bytes:
    """A PNG of any claimed size; its pixels are zeros that compress well."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compressobj(9)
    rows = b""
    if body is None:
        line = bytes(1 + 3 * width)
        rows = b"".join(packed.compress(line) for _ in range(height)) + packed.flush()
    parts = (b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), chunk(b"IDAT", body or rows))
    return b"".join(parts) + chunk(b"IEND", b"")


def images(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """Hostile images, and hostile words on how to read them."""
    from PIL import Image

    place = folder / "pictures"
    place.mkdir()
    end = chance.choice(("png", "jpg", "bmp", "webp"))
    file = place / f"given.{end}"
    size = chance.choice(((20, 16), (16, 20), (1, 1), (1, 400), (13, 13)))
    mode = chance.choice(("RGB", "L", "RGB", "P")) if end in ("png", "bmp") else "RGB"
    Image.new(mode, size).save(file)
    way = chance.random()
    tokenizer = stock.tokenizer
    names = [file.name, "pictures"]
    if way < 0.2:
        width, height = chance.choice(((16_000, 16_000), (9000, 9000), (2**31 - 1, 1), (0, 5)))
        body = None if width == 9000 else b"x"
        file.write_bytes(_png(width, height, body))
        told = f"png {width} x {height}"
    elif way < 0.35:
        form = chance.choice(("GIF", "TIFF", "PPM", "ICO", "EPS"))
        kept = io.BytesIO()
        Image.new("RGB", (20, 20)).save(kept, form)
        file.write_bytes(kept.getvalue())
        told = form
    elif way < 0.65:
        told = spoilt(chance, file)
    else:
        told = _settings(chance, folder, stock)
        tokenizer = folder / "tokenizer"
        names.append("preprocessor_config.json")
    arguments: tuple[str, ...] = chance.choice((
        ("quantize", str(stock.images), "--scheme", "static", "--data", "pictures", "-o", "out"),
        ("sensitivity", str(stock.images), "--data", "pictures", "--parts", "layers"),
    ))  # fmt: skip
    if way >= 0.65 or chance.random() < 0.5:
        arguments += ("--preprocessor", str(tokenizer))
    return Case(arguments, tuple(names), told)


def _settings(chance: random.Random, folder: Path, stock: Stock) -> str:
    import json

    from fuzzing.mutation import mutated

    copied = stock.copied(stock.tokenizer, folder)
    file = copied / "preprocessor_config.json"
    if chance.random() < 0.3:
        return f"preprocessor_config: {spoilt(chance, file)}"
    tree, told = mutated(chance, json.loads(file.read_text()), chance.choice((1, 2)))
    file.write_text(json.dumps(tree))
    return told


GENERATORS = {"arrays": arrays, "images": images}
