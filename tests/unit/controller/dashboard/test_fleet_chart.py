import re
from datetime import timedelta

import pytest

from controller.dashboard.fleet_chart import even_top, instances_chart, queue_chart, since, table, ticks
from tests.support.samples import NOON, idle, sample

END = NOON + timedelta(seconds=100)


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


@pytest.mark.parametrize(
    ("most", "top"), [(0, 2), (1, 2), (2, 2), (3, 4), (5, 6), (7, 10), (11, 20), (99, 100), (101, 200)]
)
def test_the_axis_ends_at_a_round_number(most, top):
    assert even_top(most) == top


def test_a_sample_holds_until_the_next():
    chart = queue_chart([sample(0, 4), sample(50, 2)], NOON, END)
    waiting = next(s for s in chart.series if s.name == "waiting")
    assert chart.top == 4
    assert points(waiting.path)[:4] == [(0, 0), (500, 0), (500, 50), (1000, 50)]
    assert (waiting.now, waiting.most) == (2, 4)


def test_areas_stand_upon_each_other():
    in_flight, waiting = queue_chart([sample(0, 3, in_flight=1)], NOON, END).series
    assert points(in_flight.path) == [(0, 75), (1000, 75), (1000, 100), (0, 100)]
    assert points(waiting.path) == [(0, 0), (1000, 0), (1000, 75), (0, 75)]


def test_the_line_of_those_wanted_counts_for_the_axis():
    chart = instances_chart([sample(0, ready=1, wanted=9)], NOON, END)
    assert chart.top == 10
    assert points(chart.series[2].path) == [(0, 10), (1000, 10)]


def test_without_samples_there_is_nothing_to_draw():
    chart = queue_chart([], NOON, END)
    assert [s.path for s in chart.series] == ["", ""]
    assert chart.summary == "In the queue: in flight 0 now, at most 0; waiting 0 now, at most 0."


def test_what_lies_outside_the_window_does_not_leave_the_plot():
    chart = queue_chart([sample(-50, 1), sample(150, 1)], NOON, END)
    assert all(0 <= x <= 1000 for s in chart.series for x, _ in points(s.path))


def test_what_held_at_the_start_of_the_window_is_in_it():
    kept = since([sample(-60, 9), sample(-30, 5), sample(30, 1)], NOON)
    assert kept == [sample(0, 5), sample(30, 1)]
    assert since([sample(30, 1)], NOON) == [sample(30, 1)]


def test_the_table_says_what_held_at_even_times():
    rows = table([sample(10, 8), sample(60, 3), idle(90)], NOON, END, 4)
    assert [(row.at - NOON).seconds for row in rows] == [100, 75, 50, 25]
    assert [row.visible for row in rows] == [0, 3, 8, 8]


def test_times_are_told_in_words():
    assert ticks(timedelta(minutes=10), 2) == ["10 min ago", "5 min ago", "now"]
    assert ticks(timedelta(hours=24), 2) == ["24 h ago", "12 h ago", "now"]
