import json
import logging

from cloud.image_id import ImageId
from cloud.logs import json_formatter, name_request


def line(**extra: object) -> dict[str, object]:
    record = logging.makeLogRecord({"name": "worker", "levelname": "INFO", "msg": "received", **extra})
    assert name_request(record)
    found: dict[str, object] = json.loads(json_formatter().format(record))
    return found


def test_a_line_about_an_image_names_its_request():
    request_id = "0123456789abcdef0123456789abcdef"
    found = line(image_id=ImageId(f"{request_id}/0000-cat.jpg"), receives=2)
    assert found["message"] == "received"
    assert found["image_id"] == f"{request_id}/0000-cat.jpg"
    assert found["request_id"] == request_id
    assert found["receives"] == 2


def test_a_line_about_nothing_of_the_kind_names_none():
    assert "request_id" not in line()
    assert line(request_id="abc")["request_id"] == "abc"


def test_lines_begin_with_their_time_so_that_sort_orders_them():
    record = logging.makeLogRecord({"name": "worker", "levelname": "INFO", "msg": "received"})
    assert json_formatter().format(record).startswith('{"timestamp": "20')
