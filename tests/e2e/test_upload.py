"""What a person or a program gets that sends pictures to the running system."""

import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from bench.photos import PHOTOS  # name → (JPEG bytes, the labels that are right)
from local.driver import ROOT, System, eventually
from tests.support.bombs import jpeg_of_scans, png
from tests.support.requests_of_users import photos

PNG_CUT = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


def test_curl_gets_json_in_upload_order_with_the_right_labels(system: System, tmp_path):
    arguments = []
    for name, (data, _) in PHOTOS.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
        arguments += ["-F", f"image_file=@{tmp_path / name}.jpg"]
    done = subprocess.run(
        ["curl", "-sS", *arguments, system.url], capture_output=True, timeout=120, check=True
    )
    answer = requests.models.complexjson.loads(done.stdout)
    assert [image["filename"] for image in answer["images"]] == [f"{name}.jpg" for name in PHOTOS]
    for image, (_, right) in zip(answer["images"], PHOTOS.values(), strict=True):
        assert image["status"] == "classified"
        assert image["label"] in right
        assert image["label"] == image["predictions"][0]["label"]
        assert len(image["predictions"]) == 5
    assert answer["complete"] is True


def test_curl_puts_a_file_and_gets_its_label(system: System, tmp_path):
    name, (data, right) = next(iter(PHOTOS.items()))
    (tmp_path / f"{name}.jpg").write_bytes(data)
    command = ["curl", "-sS", "-T", f"{tmp_path / name}.jpg", system.url]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    [image] = requests.models.complexjson.loads(done.stdout)["images"]
    assert (image["filename"], image["label"] in right) == (f"{name}.jpg", True)


@pytest.mark.parametrize(
    ("field", "accept", "expected"),
    [
        ("image_file", "text/plain", "{name}:{label}\n"),
        ("inputFile", "*/*", "{name}:{label}\n"),
        ("myfile", "*/*", "{label}\n"),
    ],
)
def test_plain_text_for_those_who_want_it(system: System, field: str, accept: str, expected: str):
    name, (data, right) = next(iter(PHOTOS.items()))
    reply = system.post((f"{name}.jpg", data), field=field, headers={"Accept": accept})
    assert reply.headers["Content-Type"].startswith("text/plain")
    assert reply.text in [expected.format(name=name, label=label) for label in right]


def test_a_bad_file_among_good_ones_gets_its_own_answer(system: System):
    good = photos()
    answer = system.post(good[0], ("notes.txt", b"no picture"), ("cut.png", PNG_CUT), good[1]).json()
    assert [image["status"] for image in answer["images"]] == ["classified", "failed", "failed", "classified"]
    assert all(image["error"]["message"] for image in answer["images"][1:3])


def test_images_that_take_too_much_are_answered_and_may_not_be_tried_again(system: System):
    slow, strip = ("slow.jpg", jpeg_of_scans(3000)), ("strip.png", png(12_000, 10_000))
    answer = system.post(slow, strip, photos()[0]).json()
    assert [image["status"] for image in answer["images"]] == ["failed", "classified", "classified"]
    assert answer["images"][0]["error"]["code"] == "crashes_decoder"
    again = requests.post(f"{system.url}requests/{answer['request_id']}/retry", timeout=10)
    assert again.status_code == 409
    assert "No image of this request can be sent again" in again.json()["error"]["message"]


def test_async_answers_at_once_and_the_rest_is_there_later(system: System):
    reply = system.post(*photos(), headers={"Prefer": "respond-async"})
    assert reply.status_code == 202
    address = system.url.rstrip("/") + reply.headers["Location"]
    answer = eventually(lambda: (found := requests.get(address, timeout=10).json())["complete"] and found, 60)
    assert [image["filename"] for image in answer["images"]] == [name for name, _ in photos()]


def test_two_requests_at_once_are_both_answered_and_never_exceed_the_maximum(system: System):
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda _: system.post(*photos() * 4), range(2)))
    assert [reply.json()["counts"]["classified"] for reply in replies] == [4 * len(PHOTOS)] * 2
    assert system.record()["most_instances_at_once"] <= 2
    eventually(lambda: not system.active(), 30)


def test_the_keys_of_this_run_are_for_its_user_alone(system: System):
    assert stat.S_IMODE(system.aws_env.stat().st_mode) == 0o600
    assert stat.S_IMODE(system.aws_env.parent.stat().st_mode) == 0o700
    assert str(system.aws_env.relative_to(ROOT)) in system.log()


def test_the_aws_command_line_sees_instances_come_and_go(system: System):
    def states() -> set[str]:
        query = "Reservations[].Instances[].State.Name"
        command = f". {system.aws_env}; aws ec2 describe-instances --output text --query '{query}'"
        done = subprocess.run(
            ["sh", "-c", command], env=system.environment, capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())

    eventually(lambda: not states() & {"pending", "running"}, 30)
    system.post(photos()[0], headers={"Prefer": "respond-async"})
    eventually(lambda: states() & {"pending", "running"})
    eventually(lambda: not states() & {"pending", "running"}, 60)


def test_refusals_have_a_status_and_a_sentence(system: System):
    text = requests.post(system.url, data={"image_file": "cat.jpg"}, timeout=10)
    nothing = requests.post(system.url, timeout=10)
    method = requests.patch(system.url, timeout=10)
    unknown = requests.get(system.url + "requests/0000000000000000000000000000", timeout=10)
    nowhere = requests.get(system.url + "nowhere", headers={"Accept": "text/html"}, timeout=10)
    assert [r.status_code for r in (text, nothing, method, unknown, nowhere)] == [400, 400, 405, 404, 404]
    assert all(r.json()["error"]["message"].endswith(".") for r in (text, nothing, method, unknown))
    assert "<html" in nowhere.text
