"""One image file in every format and mode that Pillow writes, upright and as it is seen."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rbjax.data import pictures
from rbjax.data.pictures import DEEP, FRAMES, TRANSPARENT, TURNED, Header

TURNS = {  # what a viewer does for EXIF's orientations
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, -1)[::-1],
    8: lambda x: np.rot90(x),
}
EXACT = {"lossless": True, "quality": 100, "subsampling": "4:4:4"}


def blocks() -> np.ndarray:
    """Four flat quarters, which lossy formats keep nearly."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:16, :24], image[:16, 24:], image[16:, :24] = (220, 30, 30), (30, 200, 30), (30, 30, 220)
    return image


def read(path, channels: int = 3):
    header = pictures.header(str(path), path.read_bytes())
    return pictures.read(path, channels), header


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff", "avif"])
def test_rotation_is_honoured_alike(ending, tmp_path):
    for orientation, turned in TURNS.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.{ending}"
        Image.fromarray(blocks()).save(path, exif=exif, **(EXACT if ending != "tiff" else {}))
        image, header = read(path)
        expected = turned(blocks())
        assert image.shape == expected.shape
        assert header.size == expected.shape[:2]
        assert header.changes == ((TURNED,) if orientation > 1 else ())
        assert np.median(np.abs(image.astype(int) - expected)) <= 4
    damaged = tmp_path / f"damaged.{ending}"
    if ending != "tiff":
        Image.fromarray(blocks()).save(damaged, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff", **EXACT)
        assert read(damaged)[0].shape == (32, 48, 3)


def _saved(path, image, **options):
    image.save(path, **options)
    return path


def test_hidden_colours_are_not_seen(tmp_path):
    seen = []
    for hidden in ((9, 200, 0), (0, 0, 0)):
        pixels = np.full((4, 6, 4), (*hidden, 0), np.uint8)
        pixels[1, 2] = (10, 20, 30, 255)
        pixels[3, 3] = (0, 0, 0, 128)
        rgba = Image.fromarray(pixels)
        for path in (
            _saved(tmp_path / "a.png", rgba),
            _saved(tmp_path / "a.webp", rgba, lossless=True, exact=True),
            _saved(tmp_path / "a.tiff", rgba),
            _saved(tmp_path / "a.tga", rgba),
            _saved(tmp_path / "b.png", rgba.convert("LA")),
        ):
            image, header = read(path)
            assert header.changes == (TRANSPARENT,)
            assert header.channels == (1 if path.name == "b.png" else 3)
            seen.append(image[0, 0].tolist())
            assert image[3, 3].tolist() == [127] * 3
            assert read(path, 1)[0][0, 0].tolist() == [255]
        np.testing.assert_array_equal(read(tmp_path / "a.png")[0][1, 2], (10, 20, 30))
        palette = Image.fromarray((np.arange(24) % 2).astype(np.uint8).reshape(4, 6)).convert("P")
        palette.putpalette([*hidden, 10, 20, 30])
        for ending in ("png", "gif"):
            path = _saved(tmp_path / f"p.{ending}", palette, transparency=0)
            image, header = read(path)
            assert header.changes == (TRANSPARENT,)
            assert image[0, :2].tolist() == [[255] * 3, [10, 20, 30]]
        rgb = Image.fromarray(pixels[..., :3])
        image, _ = read(_saved(tmp_path / "t.png", rgb, transparency=hidden))
        assert image[0, 0].tolist() == [255] * 3
    assert seen == [[255] * 3] * 10
    opaque = Image.fromarray(blocks()).convert("RGBA")
    np.testing.assert_array_equal(read(_saved(tmp_path / "o.png", opaque))[0], blocks())


def test_all_sixteen_bits_are_read_or_the_upper_eight(tmp_path):
    deep = np.array([[0, 255, 256, 300, 32768, 65535]] * 2, np.uint16)
    for name in ("a.png", "a.tiff", "a.pgm", "a.jp2"):
        image, header = read(_saved(tmp_path / name, Image.fromarray(deep)), 1)
        assert header == Header((2, 6), 1, is_deep=True)
        assert image[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
        whole = pictures.read(tmp_path / name, 3, np.float32)
        assert whole.dtype == np.float32
        expected = (deep / np.float32(65535))[..., None].repeat(3, axis=-1)
        np.testing.assert_array_equal(whole, expected)
    (tmp_path / "big.tiff").write_bytes(_saved_as(Image.fromarray(deep.astype(">u2")), "TIFF"))
    assert read(tmp_path / "big.tiff", 1)[0][0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    # Beside images of 16 bits others are what they are in 8: k / 255, a colour's luma in grey.
    _saved(tmp_path / "e.png", Image.fromarray(blocks()))
    for channels in (1, 3):
        eight, whole = (
            pictures.read(tmp_path / "e.png", channels, dtype) for dtype in (np.uint8, np.float32)
        )
        np.testing.assert_array_equal(whole, eight / np.float32(255))
    exif, tall = Image.Exif(), _saved(tmp_path / "t.png", Image.fromarray(deep), transparency=300)
    exif[0x0112] = 6
    Image.open(tall).save(tall, exif=exif)
    whole = pictures.read(tall, 1, np.float32)[..., 0]
    expected = np.rot90(np.where(deep == 300, 65535, deep) / np.float32(65535), -1)
    np.testing.assert_array_equal(whole, expected)
    colour = tmp_path / "c.ppm"
    colour.write_bytes(b"P6 2 1 65535\n" + np.array([1, 0x1234, 0xFFFF] * 2, ">u2").tobytes())
    image, header = read(colour)
    assert header == Header((1, 2), 3, changes=(DEEP,))
    np.testing.assert_allclose(image[0, 0], [0, 0x12, 255], atol=1)


def test_tiff_says_what_its_sixteen_bits_mean(tmp_path):
    deep, path = np.array([[0, 300, 65535]] * 2, np.uint16), tmp_path / "x.tiff"
    black = _saved_as(Image.fromarray(deep), "TIFF")
    tag = struct.pack("<HHI", 262, 3, 1)
    assert black.count(tag + struct.pack("<I", 1)) == 1
    path.write_bytes(black.replace(tag + struct.pack("<I", 1), tag + struct.pack("<I", 0)))
    np.testing.assert_array_equal(
        pictures.read(path, 1, np.float32)[..., 0], (65535 - deep) / np.float32(65535)
    )
    assert read(path, 1)[0][0, :, 0].tolist() == [255, 254, 0]
    # With a sign, as those of computed tomography are: -1000 is not 64536.
    path.write_bytes(_signed(np.array([[-1000, 300, 1000]] * 2, "<i2")))
    assert not pictures.header("x.tiff", path.read_bytes()).is_deep
    for dtype in (np.uint8, np.float32):
        with pytest.raises(
            ValueError, match=r"more than 8 bits a channel \(I\), of no known range"
        ):
            pictures.read(path, 1, dtype)


def _signed(values: np.ndarray) -> bytes:
    """Returns a TIFF of signed 16 bits, which Pillow does not write."""
    height, width = values.shape
    pixels = values.tobytes()
    tags = {256: width, 257: height, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    tags |= {279: len(pixels), 339: 2}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = struct.pack("<2sHI", b"II", 42, 8 + len(pixels))
    return start + pixels + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


def _saved_as(image, kind):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def test_of_several_frames_the_first_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "lime")]
    for name in ("a.gif", "a.png", "a.webp", "a.tiff"):
        options: Any = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        image, header = read(tmp_path / name)
        assert header.changes == (FRAMES,)
        assert image[0, 0].tolist() == [255, 0, 0]


def test_other_modes(tmp_path):
    one = Image.fromarray(blocks()[..., 0] > 100)
    assert np.unique(read(_saved(tmp_path / "a.png", one), 1)[0]).tolist() == [0, 255]
    assert read(tmp_path / "a.png")[1] == Header((32, 48), 1)
    cmyk = Image.fromarray(blocks()).convert("CMYK")
    for name in ("a.jpg", "a.tiff"):
        image, header = read(_saved(tmp_path / name, cmyk))
        assert header == Header((32, 48), 3)
        assert np.median(np.abs(image.astype(int) - blocks())) <= 4
    palette = Image.fromarray(blocks()).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_allclose(read(_saved(tmp_path / "p.png", palette))[0], blocks(), atol=2)
    assert read(tmp_path / "p.png")[1].channels == 3
    grey = Image.fromarray(blocks()).convert("L").convert("P")
    assert read(_saved(tmp_path / "g.png", grey))[1].channels == 1
    with pytest.raises(ValueError, match=r"l.tiff: .*colour space LAB; store it as RGB"):
        read(_saved(tmp_path / "l.tiff", Image.new("LAB", (4, 4))))


@pytest.mark.parametrize(
    "ending", ["png", "jpg", "gif", "webp", "avif", "jp2", "bmp", "tga", "tiff", "ppm"]
)
def test_cut_and_empty_files_are_named(ending, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    path = _saved(tmp_path / f"x.{ending}", Image.fromarray(noise))
    whole = path.read_bytes()
    read(path)
    for length in (0, 1, 7, 20, len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match=rf"x.{ending}: not an image that can be read"
        ) as error:
            read(path)
        assert "\n" not in str(error.value)


def test_a_png_file_that_lies_about_its_size_is_named(tmp_path):
    whole = _saved(tmp_path / "x.png", Image.fromarray(blocks())).read_bytes()
    for width, height in ((48, 32), (48, 33), (48, 31), (47, 32), (49, 32), (24, 64)):
        shape = struct.pack(">II", width, height) + whole[24:29]
        checksum = struct.pack(">I", zlib.crc32(b"IHDR" + shape))
        (tmp_path / "x.png").write_bytes(whole[:16] + shape + checksum + whole[33:])
        if (width, height) == (48, 32):
            np.testing.assert_array_equal(read(tmp_path / "x.png")[0], blocks())
            continue
        with pytest.raises(ValueError, match=r"x.png: not an image .*holds (more|fewer)\)"):
            read(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.gif", "GIF"),
        ("x.JFIF", "JPEG"),
        ("x.jpe", "JPEG"),
        ("x.jp2", "JPEG2000"),
        ("x.avif", "AVIF"),
        ("x.pnm", "PPM"),
        ("x.tga", "TGA"),
        ("photo", "PNG"),
        ("photo.17", "WEBP"),
        ("other.jpg", "PNG"),
    ],
)
def test_whatever_it_is_called(name, kind, tmp_path):
    path = _saved(tmp_path / name, Image.fromarray(blocks()), format=kind)
    assert pictures.is_image(path)
    assert np.median(np.abs(read(path)[0].astype(int) - blocks())) <= 8
    for other in ("notes.txt", "list", "x.zip", "x.eps", "x.h5"):
        (tmp_path / other).write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n" if other == "x.eps" else b"ant 1"
        )
        assert not pictures.is_image(tmp_path / other)
