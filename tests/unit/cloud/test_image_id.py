import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cloud.image_id import (
    ImageId,
    clean_filename,
    is_request_id,
    new_request_id,
    shard_and_time,
    shard_of,
)

REQUEST = "0123456789abcdef0123456789abcdef"


def test_request_ids_are_not_to_be_guessed():
    made = {new_request_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(is_request_id(request_id) for request_id in made)


def test_request_ids_of_one_shard_are_in_the_order_of_their_time(monkeypatch):
    made = []
    for second in (9, 10, 11):
        monkeypatch.setattr("cloud.image_id.now", lambda second=second: datetime.fromtimestamp(second, UTC))
        made.append(new_request_id("abcdef"))
    assert made == sorted(made)
    assert [shard_of(request_id) for request_id in made] == ["abcdef"] * 3
    assert made[0] < shard_and_time(made[1]) < made[1]


@pytest.mark.parametrize(
    "text", ["", "../../etc/passwd", REQUEST.upper(), REQUEST[:-1], REQUEST + "0", REQUEST + "\n"]
)
def test_nothing_else_passes_for_a_request_id(text):
    assert not is_request_id(text)


def test_an_image_id_holds_request_number_and_file_name():
    made = ImageId.make(REQUEST, 7, "cat.jpg")
    assert made == f"{REQUEST}/0007-cat.jpg"
    assert (made.request_id, made.name, made.number, made.filename) == (REQUEST, "0007-cat.jpg", 7, "cat.jpg")


def test_an_image_id_is_the_same_string_wherever_it_is_used():
    made = ImageId(f"{REQUEST}/0007-cat.jpg")
    assert {made: 1}[str(made)] == 1
    assert json.dumps([made]) == f'["{REQUEST}/0007-cat.jpg"]'
    assert f"{made}" == made


def test_an_image_id_in_json_is_parsed_when_it_is_read():
    ids = TypeAdapter(dict[ImageId, ImageId])
    found = ids.validate_json(f'{{"{REQUEST}/0001-b.jpg": "{REQUEST}/0000-a.jpg"}}')
    assert [(i.number, first.filename) for i, first in found.items()] == [(1, "a.jpg")]
    assert ids.validate_json(ids.dump_json(found)) == found
    assert TypeAdapter(ImageId).json_schema() == {"type": "string"}


@pytest.mark.parametrize("value", ['"junk"', "7", "null"])
def test_malformed_json_is_no_image_id(value):
    with pytest.raises(ValidationError):
        TypeAdapter(ImageId).validate_json(value)


def test_two_files_of_one_name_are_two_images():
    assert ImageId.make(REQUEST, 0, "cat.jpg") != ImageId.make(REQUEST, 1, "cat.jpg")


def test_image_ids_of_a_big_request_still_parse():
    assert ImageId(ImageId.make(REQUEST, 12345, "cat.jpg")).number == 12345


@pytest.mark.parametrize(
    "text",
    [
        "",
        "junk",
        "cat.jpg",
        f"{REQUEST}/cat.jpg",
        f"{REQUEST}/0001-",
        f"{REQUEST}/12-cat.jpg",
        f"{REQUEST}/0001-../cat.jpg",
        f"{REQUEST}/0001-{'x' * 1024}",
        "open/" + REQUEST,
    ],
)
def test_junk_is_no_image_id(text):
    with pytest.raises(ValueError, match="is no image-id"):
        ImageId(text)


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("cat.jpg", "cat.jpg"),
        ("Été à la plage.JPG", "Été à la plage.JPG"),
        ("e\u0301te\u0301.png", "été.png"),
        ("犬.jpg", "犬.jpg"),
        ("🐕 dog.jpg", "🐕 dog.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\cat.jpg", "cat.jpg"),
        ("/absolute/cat.jpg", "cat.jpg"),
        ("a\r\nSet-Cookie: x.jpg", "aSet-Cookie: x.jpg"),
        ("nul\0byte.jpg", "nulbyte.jpg"),
        ("right\u202eto-left.jpg", "rightto-left.jpg"),
        ("  spaces.jpg  ", "spaces.jpg"),
        ("", "unnamed"),
        ("..", "unnamed"),
        ("photos/", "unnamed"),
        ("\x00\x01", "unnamed"),
        (".jpg", ".jpg"),
        ("50% off + more?.jpg", "50% off + more?.jpg"),
    ],
)
def test_a_name_keeps_its_letters_and_loses_paths_and_control_characters(given_name, kept):
    assert clean_filename(given_name) == kept


def test_a_long_name_keeps_its_suffix():
    name = clean_filename("犬" * 200 + ".jpeg")
    assert name.endswith("犬.jpeg")
    assert len(name.encode()) <= 255


@pytest.mark.parametrize("mark", ["\u0300\u0316", "\u0f71\u0f72", "a\u0301"])
def test_no_name_holds_the_process(mark):
    """Their normal form sorts the marks of a letter, in a time that grows with the square of their number."""
    name = f'{mark!r} * 215_000 + ".jpg"'
    code = f"from cloud.image_id import clean_filename; print(clean_filename({name}), end='')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.endswith(".jpg")
    assert len(done.stdout.encode()) <= 255


def test_a_long_suffix_is_part_of_the_name():
    assert len(clean_filename("a." + "b" * 400).encode()) == 255


@given(st.text(max_size=400), st.integers(0, 10**6))
def test_any_name_at_all_makes_an_image_id_that_s3_and_sqs_take(filename, number):
    made = ImageId.make(REQUEST, number, filename)
    found = ImageId(str(made))
    assert (found.request_id, found.number) == (REQUEST, number)
    assert len(made.encode()) <= 1024
    assert "/" not in found.filename
