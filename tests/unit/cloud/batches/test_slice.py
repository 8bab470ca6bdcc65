import pytest

from cloud.batches.slice import Slice

BATCH = "0123456789abcdef" * 2


def test_a_slice_survives_the_queue():
    part = Slice.of(BATCH, 12, [0, 1, 2, 7, 9, 10], round=2)
    assert Slice.read(part.model_dump_json()) == part
    assert part.ranges == ((0, 3), (7, 8), (9, 11))
    assert part.positions == [0, 1, 2, 7, 9, 10]
    assert len(part) == 6


def test_halves_have_each_position_once():
    part = Slice.of(BATCH, 0, [3, 4, 5, 8, 9])
    first, second = part.halves()
    assert first.positions + second.positions == part.positions
    assert abs(len(first) - len(second)) <= 1


def test_one_image_cannot_be_halved():
    part = Slice.of(BATCH, 0, [3])
    assert part.halves() == [part]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "0123456789abcdef0123456789abcdef/0000-cat.jpg",
        '{"batch_id": "x", "manifest": 0, "ranges": [[0, 1]]}',
        f'{{"batch_id": "{BATCH}", "manifest": 0, "ranges": []}}',
        f'{{"batch_id": "{BATCH}", "manifest": 0, "ranges": [[2, 2]]}}',
        f'{{"batch_id": "{BATCH}", "manifest": 0, "ranges": [[-1, 2]]}}',
        f'{{"batch_id": "{BATCH}", "manifest": 0, "ranges": [[5, 6], [0, 2]]}}',
        f'{{"batch_id": "{BATCH}", "manifest": 0, "ranges": [[0, 1000000000000]]}}',
        f'{{"batch_id": "{BATCH}", "manifest": 0, "ranges": [[1000, 1001]]}}',
        f'{{"batch_id": "{BATCH}", "manifest": {"9" * 999}, "ranges": [[0, 1]]}}',
        f'{{"batch_id": "{BATCH}", "manifest": 0, "ranges": [[0, 1]], "round": {"9" * 999}}}',
    ],
)
def test_other_messages_are_no_slices(body):
    with pytest.raises(ValueError, match="is no slice of a batch"):
        Slice.read(body)
