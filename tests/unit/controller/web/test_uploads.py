import pytest
from werkzeug.datastructures import FileStorage

from controller.image_requests.errors import RequestRefused
from controller.web.errors import STATUSES
from controller.web.uploads import read_files
from tests.support.submissions import file

REQUEST = "0123456789abcdef0123456789abcdef"


def read(*files: FileStorage, max_files: int = 5):
    return read_files(REQUEST, files, max_files)


def test_files_become_images_in_upload_order(png, jpeg):
    uploads = read(file("b.png", png), file("a.jpg", jpeg))
    assert [u.image_id for u in uploads] == [f"{REQUEST}/0000-b.png", f"{REQUEST}/0001-a.jpg"]
    assert [u.refusal for u in uploads] == [None, None]


def test_the_content_tells_the_type_whatever_name_and_client_say(jpeg):
    (upload,) = read(file("cat.png", jpeg))
    assert upload.content_type == "image/jpeg"


def test_the_header_check_leaves_the_file_whole(png):
    (upload,) = read(file("cat.png", png))
    assert upload.stream.read() == png


def test_a_file_that_is_no_image_is_refused_for_itself_and_not_with_the_others(png):
    good, bad = read(file("cat.png", png), file("notes.txt", b"milk, bread"))
    assert good.refusal is None
    assert bad.refusal is not None
    assert bad.refusal.code == "not_an_image"
    assert bad.refusal.message
    assert bad.image_id == f"{REQUEST}/0001-notes.txt"


def test_two_files_of_one_name_are_two_images(png):
    one, other = read(file("cat.png", png), file("cat.png", png))
    assert one.image_id != other.image_id


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("é.png", "é.png"),
        ("犬.png", "犬.png"),
        ("../../x.png", "x.png"),
        ("a\x00\r\nb.png", "ab.png"),
        (None, "unnamed"),
    ],
)
def test_names_keep_their_letters_and_lose_paths_and_control_characters(given, kept, png):
    (upload,) = read(file(given, png))
    assert upload.image_id.filename == kept


def test_a_file_input_that_was_left_empty_is_no_file(png):
    uploads = read(file("", b""), file("cat.png", png), file(None, b""))
    assert [u.image_id for u in uploads] == [f"{REQUEST}/0000-cat.png"]


@pytest.mark.parametrize("files", [[], [file("", b"")]])
def test_no_file_at_all_is_refused(files):
    with pytest.raises(RequestRefused, match="No file came") as refused:
        read(*files)
    assert (STATUSES[type(refused.value)], refused.value.code) == (400, "no_file")


def test_an_empty_file_alone_is_refused_for_itself():
    (upload,) = read(file("cat.png", b""))
    assert upload.refusal is not None
    assert upload.refusal.code == "empty_file"


def test_an_empty_file_among_others_is_refused_for_itself(png):
    empty, good = read(file("cat.png", b""), file("dog.png", png))
    assert empty.refusal is not None
    assert empty.refusal.code == "empty_file"
    assert good.refusal is None


def test_too_many_files_are_refused_with_the_limit(png):
    assert len(read(*[file("cat.png", png)] * 5)) == 5
    with pytest.raises(RequestRefused, match="6 files are too many: at most 5 in one request") as refused:
        read(*[file("cat.png", png)] * 6)
    assert (STATUSES[type(refused.value)], refused.value.code) == (413, "too_many_files")
