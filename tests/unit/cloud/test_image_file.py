import struct
import subprocess
import sys
import tracemalloc
import zlib
from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat, PngImagePlugin, TiffImagePlugin

from bench.photos import PHOTOS
from cloud.image_file import (
    FORMATS,
    MAX_PIXELS,
    PREFIX_BYTES,
    SHORT_SIDE,
    BadImage,
    check_header,
    decode,
)

JPEG = PHOTOS["cat"][0]
CAT = Image.open(BytesIO(JPEG)).convert("RGB")
MIME_TYPES = {format: f"image/{format.lower()}" for format in FORMATS} | {"HEIF": "image/heic"}


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean over pixels and channels, of 255."""
    assert one.size == other.size
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def code_of(data: bytes, read=decode) -> str:
    with pytest.raises(BadImage) as caught:
        read(data)
    assert caught.value.message.endswith(".")
    assert str(caught.value) == caught.value.message
    return caught.value.code


def header_of(data: bytes) -> str:
    return check_header(BytesIO(data))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says it is so large, in 60 bytes."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", b"x"),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(("format", "mime"), MIME_TYPES.items())
def test_every_format_that_people_have_is_recognised_and_decoded(format: str, mime: str):
    data = encoded(CAT, format)
    assert header_of(data) == mime
    image = decode(data)
    assert image.mode == "RGB"
    assert difference(image, CAT) < 8


def test_the_mpo_that_phones_write_counts_as_jpeg():
    data = encoded(CAT, "MPO", save_all=True, append_images=[CAT.resize((64, 64))])
    assert Image.open(BytesIO(data)).format == "MPO"
    assert header_of(data) == "image/jpeg"
    assert difference(decode(data), CAT) < 8


def test_a_heic_is_not_judged_by_its_thumbnail():
    """That of a Samsung has 512 by 384 pixels. A thumbnail may be older than the picture, or another one."""
    photo = CAT.resize((1600, 1200))
    assert decode(encoded(photo, "HEIF", thumbnails=[512])) == decode(encoded(photo, "HEIF"))


COLOUR_MODES = {"P": "PNG BMP TIFF", "RGBA": "PNG WEBP TIFF", "CMYK": "JPEG TIFF", "YCbCr": "TIFF"}


@pytest.mark.parametrize(
    ("mode", "format"),
    [(mode, format) for mode, formats in COLOUR_MODES.items() for format in formats.split()],
)
def test_colours_survive_every_mode(mode: str, format: str):
    image = CAT.quantize() if mode == "P" else CAT.convert(mode)
    assert difference(decode(encoded(image, format)), CAT) < 8


@pytest.mark.parametrize(
    ("mode", "format"),
    [("L", "JPEG"), ("L", "PNG"), ("LA", "PNG"), ("L", "HEIF"), ("1", "PNG"), ("1", "TIFF")],
)
def test_greys_survive_every_mode(mode: str, format: str):
    grey = CAT.convert("L").convert(mode)
    assert difference(decode(encoded(grey, format)), grey.convert("RGB")) < 8


@pytest.mark.parametrize(("mode", "format"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I;16B", "TIFF")])
def test_16_bit_greys_are_scaled_not_clipped(mode: str, format: str):
    greys = struct.pack(">4H" if mode == "I;16B" else "<4H", 0, 257 * 50, 257 * 200, 65535)
    image = decode(encoded(Image.frombytes(mode, (4, 1), greys), format))
    assert [image.getpixel((x, 0)) for x in range(4)] == [(grey,) * 3 for grey in (0, 50, 200, 255)]


def test_greys_of_12_bits_are_not_taken_for_dark_ones_of_16():
    """As cameras for microscopes write them: two pixels in three bytes."""
    fields = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    directory = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in fields.items())
    pixels = bytes([0x80, 0x0F, 0xFF, 0])
    data = b"II*\0" + struct.pack("<I", 12) + pixels + struct.pack("<H", len(fields)) + directory + bytes(4)
    image = decode(data)
    assert [image.getpixel((x, 0))[0] for x in range(2)] == pytest.approx((128, 255), abs=1)


@pytest.mark.parametrize(
    ("mode", "darkest", "brightest"), [("I", -5000, 5000), ("F", 0.0, 1.0), ("F", 7.0, 7.0)]
)
def test_greys_without_a_scale_are_stretched(mode: str, darkest: float, brightest: float):
    image = Image.new(mode, (3, 1), (darkest + brightest) / 2 if mode == "F" else 0)
    image.putpixel((0, 0), darkest)
    image.putpixel((2, 0), brightest)
    greys = [decode(encoded(image, "TIFF")).getpixel((x, 0))[0] for x in range(3)]
    assert greys == pytest.approx((0, 127.5, 255) if brightest > darkest else (0, 0, 0), abs=0.5)


@pytest.mark.parametrize("unknown", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("at", [0, 3])
def test_greys_that_are_no_numbers_leave_the_others_their_range(unknown: float, at: int):
    greys = [10.0, 15.0, 20.0]
    greys.insert(at, unknown)
    image = decode(encoded(Image.frombytes("F", (4, 1), struct.pack("<4f", *greys)), "TIFF"))
    found = [image.getpixel((x, 0))[0] for x in range(4)]
    del found[at]
    assert found == pytest.approx((0, 127.5, 255), abs=0.5)


@pytest.mark.parametrize(
    ("mode", "greys"), [("I;16", struct.pack("<2H", 65535, 0)), ("F", struct.pack("<2f", 1, 0))]
)
def test_a_tiff_in_which_zero_is_white_is_no_negative(mode: str, greys: bytes):
    white_is_zero = {TiffImagePlugin.PHOTOMETRIC_INTERPRETATION: 0}
    image = decode(encoded(Image.frombytes(mode, (2, 1), greys), "TIFF", tiffinfo=white_is_zero))
    assert [image.getpixel((x, 0))[0] for x in range(2)] == [0, 255]


@pytest.mark.parametrize(
    ("mode", "format"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "HEIF")]
)
def test_transparency_is_white_and_half_of_it_half_white(mode: str, format: str):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((0, 0, 0, 128), (32, 0, 64, 64))
    options = {"lossless": True} if format == "WEBP" else {}
    decoded = decode(encoded(image.convert(mode), format, **options))
    assert decoded.getpixel((8, 32)) == pytest.approx((255, 255, 255), abs=3)
    assert decoded.getpixel((56, 32)) == pytest.approx((127, 127, 127), abs=3)


@pytest.mark.parametrize("order", ["<", ">"])
def test_planes_of_16_bits_are_those_of_the_picture(order: str):
    """As tifffile and GDAL write them. Pillow does not."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    planes = b"".join(
        struct.pack(f"{order}4H", *(257 * level for level in plane)) for plane in zip(*colours, strict=True)
    )
    several = {258: (16,) * 3, 273: (8, 16, 24), 279: (8,) * 3}
    fields = {256: 4, 257: 1, 258: 0, 259: 1, 262: 2, 273: 0, 277: 3, 278: 1, 279: 0, 284: 2}
    directory, values = b"", b""
    end = 8 + len(planes) + 2 + 12 * len(fields) + 4
    for tag, value in fields.items():
        if tag in several:
            directory += struct.pack(f"{order}HHII", tag, 3, 3, end + len(values))
            values += struct.pack(f"{order}3H", *several[tag])
        else:
            directory += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(planes))
    data = head + planes + struct.pack(f"{order}H", len(fields)) + directory + bytes(4) + values
    image = decode(data)
    assert [image.getpixel((x, 0)) for x in range(4)] == colours


def grey_tiff(order: str, bits: int, samples: bytes, **fields: int) -> bytes:
    """A TIFF file of four greys in a row, which Pillow cannot write. `fields` are further ones, by name."""
    tags = {"compression": 259, "photometric": 262, "planes": 284, "format": 339}
    values = {256: 4, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(samples)}
    values |= {tags[name]: value for name, value in fields.items()}
    directory = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, values[tag], 0) for tag in sorted(values))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(samples))
    return head + samples + struct.pack(f"{order}H", len(values)) + directory + bytes(4)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("bits", "format", "letter", "levels"),
    [
        (8, 1, "B", (0, 85, 170, 255)),
        (16, 1, "H", (0, 21845, 43690, 65535)),
        (16, 2, "h", (-300, -100, 100, 300)),
        (32, 2, "i", (-300, -100, 100, 300)),
        (32, 3, "f", (0.0, 0.25, 0.5, 0.75)),
    ],
)
def test_greys_are_right_however_their_samples_are_stored(
    order, planes, compression, bits, format, letter, levels
):
    """Bio-Formats writes big-endian files, and some programs say that a picture of greys is in planes."""
    samples = struct.pack(f"{order}4{letter}", *levels)
    stored = zlib.compress(samples) if compression == 8 else samples
    data = grey_tiff(order, bits, stored, compression=compression, planes=planes, format=format)
    image = decode(data)
    assert [image.getpixel((x, 0)) for x in range(4)] == [(grey,) * 3 for grey in (0, 85, 170, 255)]


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize(("bits", "samples"), [(8, b"\xff\xaa\x55\0"), (4, b"\xfa\x50"), (2, b"\xe4")])
def test_greys_of_which_0_is_white_are_right_in_a_plane_too(planes, bits, samples):
    image = decode(grey_tiff("<", bits, samples, photometric=0, planes=planes))
    assert [image.getpixel((x, 0))[0] for x in range(4)] == [0, 85, 170, 255]


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
def test_a_transparent_palette_entry_is_white(transparency: int | bytes):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    decoded = decode(encoded(image, "PNG", transparency=transparency))
    assert [decoded.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (0, 0, 255)]


@pytest.mark.parametrize(("alpha", "shown"), [((0, 0), (255, 0, 0)), ((0, 255), (255, 255, 255))])
def test_a_bitmap_whose_alpha_is_nothing_but_zeros_is_opaque(alpha: tuple[int, int], shown: tuple[int, ...]):
    """Many programs leave that byte empty, as in a picture of the screen. Browsers show such a bitmap."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 2, 1, 1, 32, 3, 8, 0, 0, 0, 0) + masks
    pixels = bytes([0, 0, 255, alpha[0], 255, 0, 0, alpha[1]])
    data = b"BM" + struct.pack("<IHHI", 14 + 108 + 8, 0, 0, 14 + 108) + header.ljust(108, b"\0") + pixels
    image = decode(data)
    assert [image.getpixel((x, 0)) for x in range(2)] == [shown, (0, 0, 255)]


# EXIF 2.32, tag 0x0112: where the stored picture's first row's first and last pixel belong.
CORNERS = {
    1: ("top left", "top right"),
    2: ("top right", "top left"),
    3: ("bottom right", "bottom left"),
    4: ("bottom left", "bottom right"),
    5: ("top left", "bottom left"),
    6: ("top right", "bottom right"),
    7: ("bottom right", "top right"),
    8: ("bottom left", "top left"),
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", CORNERS)
def test_a_photo_is_set_upright_as_its_exif_says(format: str, orientation: int):
    stored = Image.new("RGB", (96, 64), "white")
    stored.paste("red", (0, 0, 32, 32))
    stored.paste("blue", (64, 0, 96, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.info["exif"] = exif.tobytes()  # from here the HEIF writer turns it into its container's own tags
    image = decode(encoded(stored, format, **({} if format == "HEIF" else {"exif": exif})))
    assert image.size == ((96, 64) if orientation < 5 else (64, 96))
    for corner, colour in zip(CORNERS[orientation], ((255, 0, 0), (0, 0, 255)), strict=True):
        at = (16 if "left" in corner else image.width - 16, 16 if "top" in corner else image.height - 16)
        assert image.getpixel(at) == pytest.approx(colour, abs=12)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0this is no TIFF header",
        b"Exif\0\0MM\0*\0\0\0\x08\x7f\xff" + b"\x01\x12\0\x03\0\0\xff\xff\0\xff\xff\xff" * 3,
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0",  # orientation 9 of 8
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_costs_no_photo(format: str, exif: bytes):
    assert difference(decode(encoded(CAT, format, exif=exif)), CAT) < 8


@pytest.mark.parametrize("what", ["text", "profile"])
def test_a_png_with_much_metadata_is_decoded(what: str):
    if what == "text":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", " " * 3_000_000, zip=True)
        data = encoded(CAT, "PNG", pnginfo=chunks)
    else:
        data = encoded(CAT, "PNG", icc_profile=bytes(3_000_000))
    assert difference(decode(data), CAT) == 0


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_counts(format: str):
    rest = [Image.new("RGB", CAT.size, colour) for colour in ("red", "blue")]
    assert difference(decode(encoded(CAT, format, save_all=True, append_images=rest)), CAT) < 8


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_large_photo_is_shrunk_but_not_below_what_models_need(format: str):
    image = decode(encoded(CAT.resize((4000, 2660)), format))
    assert SHORT_SIDE <= image.height < 2 * SHORT_SIDE
    assert difference(image, CAT.resize(image.size)) < 8


def test_a_small_photo_keeps_its_pixels():
    assert difference(decode(encoded(CAT, "PNG")), CAT) == 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"Dear diary, today I saw a cat.", "not_an_image"),
        (b"\0" * 1000, "not_an_image"),
        (b"%PDF-1.7 ...", "unsupported_format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "unsupported_format"),
        (encoded(CAT, "JPEG2000"), "unsupported_format"),
        (png_of_size(60_000, 60_000), "too_many_pixels"),
        (png_of_size(MAX_PIXELS // 1000 + 1, 1000), "too_many_pixels"),
    ],
)
def test_what_is_no_photo_is_refused_by_its_header_with_code_and_sentence(data: bytes, code: str):
    assert code_of(data, header_of) == code_of(data) == code


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (JPEG[:20], "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "image/png"),
        (b"II*\0" + b"\xff" * 40, "image/tiff"),
    ],
)
def test_a_broken_header_is_left_to_who_decodes(data: bytes, mime: str):
    assert header_of(data) == mime
    assert code_of(data) == "broken"


def test_an_old_bitmap_is_not_taken_for_a_huge_one():
    core = struct.pack("<IHHHH", 12, 24, 16, 1, 24)
    data = b"BM" + struct.pack("<IHHI", 26 + 24 * 16 * 3, 0, 0, 26) + core + b"\x80" * (24 * 16 * 3)
    assert header_of(data) == "image/bmp"
    assert decode(data).size == (24, 16)


def tiff_of_strips(count: int) -> bytes:
    """In 8 bytes a strip."""
    entries = [(256, 4, 1, 1), (257, 4, 1, count), (273, 4, count, 122), (279, 4, count, 122 + 4 * count)]
    header = b"II*\0" + struct.pack("<IH", 8, len(entries))
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (header + directory).ljust(122, b"\0") + struct.pack("<I", 1) * (2 * count)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def heif_of_items(count: int, brand: bytes) -> bytes:
    """In 5 bytes an item, none of which has properties."""
    items = b"".join(struct.pack(">IB", number, 0) for number in range(count))
    associations = box(b"ipma", struct.pack(">II", 1 << 24, count) + items)
    return box(b"ftyp", brand + b"\0" * 4) + box(b"meta", b"\0" * 4 + box(b"iprp", associations))


MANY_PARTS = {
    "JPEG": b"\xff\xd8" + b"\xff\xe0\0\2" * 1_500_000,
    "PNG": png_of_size(8, 8)[:33] + (b"\0\0\0\0prVt" + struct.pack(">I", zlib.crc32(b"prVt"))) * 500_000,
    "TIFF": tiff_of_strips(750_000),
    "HEIF": heif_of_items(199_900, b"heic") + b"\0" * 5_000_000,
    "AVIF": heif_of_items(199_900, b"avif") + b"\0" * 5_000_000,
}


@pytest.mark.parametrize("format", MANY_PARTS)
def test_a_file_of_many_parts_costs_the_controller_no_memory_to_speak_of(format: str):
    """6 MB each, which Pillow would keep part by part."""
    tracemalloc.start()
    try:
        assert header_of(MANY_PARTS[format]) == MIME_TYPES[format]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * PREFIX_BYTES


def test_a_picture_as_large_as_allowed_passes_the_header_check():
    assert header_of(png_of_size(MAX_PIXELS // 1000, 1000)) == "image/png"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_a_truncated_file_is_a_bad_image(format: str, kept: float):
    data = encoded(CAT, format)
    assert code_of(data[: int(len(data) * kept)]) in ("truncated", "broken")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "TIFF", "HEIF"])
def test_a_file_cut_off_after_its_header_is_called_truncated(format: str):
    data = encoded(CAT, format)
    assert code_of(data[: len(data) * 9 // 10]) == "truncated"


TINY = {format: encoded(CAT.resize((24, 16)), format) for format in FORMATS}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from(FORMATS), st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=8)
)
def test_whatever_is_damaged_the_answer_is_a_picture_or_a_bad_image(
    format: str, damages: list[tuple[int, int]]
):
    data = bytearray(TINY[format])
    for position, value in damages:
        data[position % len(data)] = value
    for read in (header_of, decode):
        with suppress(BadImage):
            result = read(bytes(data))
            assert isinstance(result, str) or result.mode == "RGB"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "TIFF"])
def test_the_header_check_reads_a_bounded_prefix_and_rewinds(format: str):
    class Counting(BytesIO):
        bytes_read = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.bytes_read += len(data)
            return data

    stream = Counting(encoded(CAT.resize((1800, 1200)), format) + b"\0" * 10 * PREFIX_BYTES)
    stream.seek(7)
    check_header(stream)
    assert stream.tell() == 0
    assert stream.bytes_read <= PREFIX_BYTES


def test_nothing_of_torch_is_imported():
    code = "import cloud.image_file, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
