"""Keepers of batches, as the tests use them."""

from tests.support.batch_work import BATCH
from tests.support.threads import join_threads

PRICE = 3600.0  # dollars an hour: a dollar for each second that a worker works


def looking_anew(keeper):
    look = keeper.look

    def look_anew():
        for watched in keeper.watch._known.values():
            watched.forget()
        pause = look()
        join_threads("list-batch")
        return pause

    keeper.look = look_anew
    return keeper


def progress_of(keeper):
    return keeper.watch.of(BATCH).read()
