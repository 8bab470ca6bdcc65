import csv
import json
from io import StringIO

import pytest

from cloud.image_id import ImageId
from cloud.prediction import Prediction
from controller.web.answers import as_csv, as_text
from tests.support.submissions import answer

REQUEST = "0123456789abcdef0123456789abcdef"


def image(number: int, name: str = "cat.jpg") -> ImageId:
    return ImageId(f"{REQUEST}/{number:04d}-{name}")


ORIGIN = {"model": "resnet18", "engine": "openvino", "precision": "int8", "instance_id": "i-1"}
TABBY = Prediction.classified(image(0), [("tabby", 0.7), ("lynx", 0.1)], timings={"classify": 0.02}, **ORIGIN)
BROKEN = Prediction.failed(image(1, "notes.txt"), "not_an_image", "This is a text file.")


def test_each_file_has_its_entry_in_upload_order():
    ids = [image(10000), image(2), image(0), image(11)]
    made = answer(REQUEST, ids, {})
    assert [i.image_id for i in made.images] == [image(0), image(2), image(11), image(10000)]


def test_an_entry_says_all_that_is_known():
    made = answer(
        REQUEST,
        [image(0), image(1, "notes.txt"), image(2, "犬.png")],
        {image(0): TABBY, BROKEN.image_id: BROKEN},
    )
    tabby, broken, waiting = made.model_dump(mode="json")["images"]
    assert tabby == {
        "image_id": image(0),
        "filename": "cat.jpg",
        "status": "classified",
        "label": "tabby",
        "confidence": 0.7,
        "predictions": [{"label": "tabby", "confidence": 0.7}, {"label": "lynx", "confidence": 0.1}],
        "error": None,
        "timings": {"classify": 0.02},
        **ORIGIN,
        "cached": False,
        "answered_at": TABBY.answered_at.isoformat().replace("+00:00", "Z"),
        "preview": None,
    }
    assert (broken["status"], broken["label"]) == ("failed", None)
    assert broken["error"] == {
        "code": "not_an_image",
        "message": "This is a text file.",
        "retryable": False,
    }
    assert (waiting["filename"], waiting["status"], waiting["label"], waiting["error"]) == (
        "犬.png",
        "waiting",
        None,
        None,
    )


def test_it_counts_and_says_whether_it_is_complete_and_where_to_ask_again():
    ids = [image(0), image(1, "notes.txt"), image(2)]
    made = answer(REQUEST, ids, {image(0): TABBY, BROKEN.image_id: BROKEN})
    assert made.counts == {"waiting": 1, "classified": 1, "failed": 1}
    assert not made.complete
    assert answer(REQUEST, ids[:2], {image(0): TABBY, BROKEN.image_id: BROKEN}).complete
    assert json.loads(made.model_dump_json())["url"] == f"/requests/{REQUEST}"


def test_text_is_a_line_for_each_image():
    made = answer(REQUEST, [image(0), image(1, "notes.txt")], {image(0): TABBY, BROKEN.image_id: BROKEN})
    assert as_text(made, with_stem=True) == "cat:tabby\nnotes:failed: This is a text file.\n"
    assert as_text(made, with_stem=False) == "tabby\nfailed: This is a text file.\n"


def test_text_says_where_a_waiting_image_will_be_answered():
    made = answer(REQUEST, [image(0)], {})
    assert as_text(made, with_stem=True) == f"cat:waiting: see /requests/{REQUEST}\n"


def test_a_stem_is_the_name_without_its_last_suffix():
    ids = [image(0, "a.b.JPG"), image(1, ".jpg"), image(2, "nodot"), image(3, "犬.png")]
    predictions = {i: Prediction.classified(i, [("x", 1.0)]) for i in ids}
    assert as_text(answer(REQUEST, ids, predictions), with_stem=True) == "a.b:x\n.jpg:x\nnodot:x\n犬:x\n"


def test_text_tells_files_of_one_name_apart():
    ids = [image(n, name) for n, name in enumerate(["cat.jpg", "cat.jpg", "dog.jpg", "cat.png"])]
    predictions = {i: Prediction.classified(i, [("x", 1.0)]) for i in ids}
    made = answer(REQUEST, ids, predictions)
    assert as_text(made, with_stem=True) == "cat:x\ncat (2):x\ndog:x\ncat (3):x\n"
    assert as_text(made, with_stem=False) == "x\nx\nx\nx\n"


def test_no_stem_gets_the_number_that_another_file_has():
    names = ["cat.jpg", "cat.png", "cat (2).jpg", "cat (2).png", "cat.gif"]
    predictions = {
        image(n, name): Prediction.classified(image(n, name), [("x", 1)]) for n, name in enumerate(names)
    }
    text = as_text(answer(REQUEST, list(predictions), predictions), with_stem=True)
    assert text == "cat:x\ncat (3):x\ncat (2):x\ncat (2) (2):x\ncat (4):x\n"


def test_csv_has_a_row_for_each_image_whatever_its_name():
    names = ['a "b", c.png', "=SUM(A1).png", "犬.png", "@x.png", "notes.txt"]
    ids = [image(n, name) for n, name in enumerate(names)]
    found = {ids[0]: Prediction.classified(ids[0], [("tabby, tabby cat", 0.5)], **ORIGIN)}
    found[ids[4]] = Prediction.failed(ids[4], "not_an_image", "This is\na text.")
    made = answer(REQUEST, ids, found)
    text = as_csv(made, for_excel=False)
    head, *rows = list(csv.reader(StringIO(text, newline="")))
    assert head == [
        "filename",
        "status",
        "label",
        "confidence",
        "error",
        "model",
        "image_id",
        "engine",
        "precision",
    ]
    assert [row[0] for row in rows] == ['a "b", c.png', "'=SUM(A1).png", "犬.png", "'@x.png", "notes.txt"]
    assert rows[0][1:6] == ["classified", "tabby, tabby cat", "0.5", "", "resnet18"]
    assert [row[7:] for row in rows[:2]] == [["openvino", "int8"], ["", ""]]
    assert rows[2][1:6] == ["waiting", "", "", "", ""]
    assert rows[4][1:5] == ["failed", "", "", "This is\na text."]
    assert [row[6] for row in rows] == ids
    assert as_csv(made, for_excel=True) == "\ufeff" + text


@pytest.mark.parametrize(
    "name",
    ["x;=HYPERLINK(0).jpg", 'x";=1+1;"', "=1", "+1", "-1", "@x", "＝1", "＋1", "－1", "＠x", "x|=1", "x\t=1"],
)
def test_no_file_name_becomes_a_formula_whatever_separates_the_fields(name):
    """Excel separates fields with a semicolon where the comma is the decimal sign."""
    text = as_csv(answer(REQUEST, [image(0, name)], {}), for_excel=True).removeprefix("\ufeff")
    for separator in ",;|\t":
        for row in csv.reader(StringIO(text, newline=""), delimiter=separator):
            assert [cell for cell in row if cell.strip(' "').startswith(tuple("=+-@＝＋－＠"))] == []
    assert all(line.startswith('"') and line.endswith('"') for line in text.splitlines())
