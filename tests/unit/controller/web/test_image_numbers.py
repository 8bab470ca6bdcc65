import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.web.image_numbers import LONGEST_TEXT, ImageNumbers

numbers = st.sets(st.integers(0, 60))


def made(of) -> ImageNumbers:
    found = ImageNumbers()
    for number in of:
        found.add(number)
    return found


def test_neighbours_become_a_range():
    assert str(made([3, 0, 1, 2, 15, 7, 8])) == "0-3,7-8,15"


@given(st.lists(st.integers(0, 60)))
def test_it_holds_what_was_added_in_any_order_and_nothing_else(of):
    found = made(of)
    assert {n for n in range(62) if n in found} == set(of)


@given(numbers)
def test_its_text_makes_the_same_again(of):
    text = str(made(of))
    assert str(ImageNumbers(text)) == text
    assert {n for n in range(62) if n in ImageNumbers(text)} == of


@pytest.mark.parametrize(
    "text", ["", "x", "1-", "-1", "1,,2", "1 2", "0-3;", "\u0663", "1" * 50, "1," * 5000 + "1", "0-3\n"]
)
def test_text_that_is_no_such_set_is_the_empty_one(text):
    found = ImageNumbers(text)
    assert str(found) == ""
    assert 1 not in found


def test_ranges_that_overlap_or_run_backwards_do_no_harm():
    assert str(ImageNumbers("5-9,1-6,20-3,9")) == "1-9"
    assert 0 not in ImageNumbers("1-999999999")


def test_what_does_not_fit_into_a_header_is_left_out_whole():
    text = str(made(range(0, 20_000, 2)))
    assert LONGEST_TEXT - 10 < len(text) <= LONGEST_TEXT
    assert text.split(",") == [str(n) for n in range(0, 20_000, 2)][: text.count(",") + 1]
