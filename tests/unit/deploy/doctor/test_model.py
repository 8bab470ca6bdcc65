"""A model that cannot do its work in time, or cannot be loaded."""

from deploy.doctor import model
from tests.support.findings import wrongs
from worker.artefact import ClassifierError


class Slow:
    """A classifier whose batch takes so long; time passes in `clock` only."""

    model, engine, precision, batch = "resnet152 (imagenet)", "openvino", "int8", 5

    def __init__(self, seconds):
        self.seconds, self.time, self.batches = seconds, 0.0, []

    def prepare(self, image):
        return image

    def classify(self, tensors):
        self.batches.append(len(tensors))
        self.time += self.seconds
        return [[("tabby", 1.0)] for _ in tensors]


def test_a_model_that_is_too_slow_for_the_visibility_timeout_is_wrong():
    slow = Slow(seconds=30)
    [finding] = wrongs(model.check_speed(slow, 60, clock=lambda: slow.time))
    assert "takes 30.0 s" in finding
    assert "set VISIBILITY_TIMEOUT to 91 or more" in finding
    assert set(slow.batches) == {5}
    fast = model.check_speed(slow, 100, clock=lambda: slow.time)
    assert (fast.state, fast.what) == (
        "ok",
        "model: resnet152 (imagenet), int8 with openvino, 30.0 s for 5 images",
    )


def test_a_model_without_weights_is_wrong():
    def load():
        raise ClassifierError("The weights /other_region cannot be read.")

    [finding] = wrongs(model.check_model(load, 60))
    assert "/other_region cannot be read" in finding
