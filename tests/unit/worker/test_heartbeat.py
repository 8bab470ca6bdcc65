from threading import Event

from cloud.errors import CloudError
from cloud.request_queue import Message
from worker.heartbeat import Heartbeat

VISIBILITY = 0.3
MESSAGES = [Message("a", "handle-a", 1), Message("b", "handle-b", 1)]


class Queue:
    def __init__(self) -> None:
        self.extended: list[list[str]] = []
        self.again = Event()
        self.refuse = False

    def extend(self, messages: list[Message], seconds: int) -> None:
        self.extended.append([m.body for m in messages])
        self.again.set()
        if self.refuse:
            raise CloudError("no")

    def wait(self, seconds: float) -> bool:
        self.again.clear()
        return self.again.wait(seconds)


def heartbeat(queue: Queue, stop: Event, hung: Event) -> Heartbeat:
    found = Heartbeat(queue, VISIBILITY, on_hang=hung.set)  # type: ignore[arg-type]
    found.start(stop)
    return found


def test_messages_in_hand_are_extended_while_work_goes_on_and_no_longer():
    queue, stop, hung = Queue(), Event(), Event()
    beat = heartbeat(queue, stop, hung)
    beat.hold(MESSAGES)
    assert queue.wait(5)
    beat.drop(MESSAGES[:1])
    assert queue.wait(5)
    assert queue.extended[-1] == ["b"]
    beat.drop(MESSAGES)
    assert not queue.wait(2 * VISIBILITY)
    assert not hung.is_set()
    stop.set()


def test_a_loop_that_makes_no_step_loses_its_messages_and_then_its_process():
    queue, stop, hung = Queue(), Event(), Event()
    heartbeat(queue, stop, hung).hold(MESSAGES)
    assert hung.wait(10)
    stop.set()
    assert len(queue.extended) <= 3


def test_steps_keep_a_long_batch_alive():
    queue, stop, hung = Queue(), Event(), Event()
    beat = heartbeat(queue, stop, hung)
    beat.hold(MESSAGES)
    for _ in range(10):
        assert queue.wait(5)
        beat.step()
    assert not hung.is_set()
    stop.set()


def test_a_failed_extension_is_tried_again():
    queue, stop, hung = Queue(), Event(), Event()
    queue.refuse = True
    beat = heartbeat(queue, stop, hung)
    beat.hold(MESSAGES)
    assert queue.wait(5)
    beat.step()
    assert queue.wait(5)
    stop.set()
