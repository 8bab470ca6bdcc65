import json
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from cloud.prediction import Prediction

IMAGE = "0123456789abcdef0123456789abcdef/0000-cat.jpg"


def test_a_classified_image_has_the_best_label_first():
    top = [("tabby", 0.7), ("tiger cat", 0.2), ("lynx", 0.05), ("Egyptian cat", 0.03), ("collar", 0.01)]
    made = Prediction.classified(IMAGE, top, model="resnet18", instance_id="i-1", timings={"fetch": 0.01})
    assert (made.status, made.label, made.confidence) == ("classified", "tabby", 0.7)
    assert [(p.label, p.confidence) for p in made.predictions] == top
    assert (made.model, made.instance_id, made.timings) == ("resnet18", "i-1", {"fetch": 0.01})
    assert made.error is None


def test_a_failed_image_has_a_code_and_a_sentence():
    made = Prediction.failed(IMAGE, "not_an_image", "This is a text file.", instance_id="i-1")
    assert (made.status, made.label, made.predictions) == ("failed", None, [])
    assert made.error is not None
    assert (made.error.code, made.error.message) == ("not_an_image", "This is a text file.")


def test_a_prediction_says_when_it_was_made():
    made = Prediction.failed(IMAGE, "broken", "…")
    assert abs((datetime.now(UTC) - made.answered_at).total_seconds()) < 5


def test_a_prediction_survives_json():
    made = Prediction.classified(IMAGE, [("犬", 1.0)], model="resnet18", engine="openvino", precision="int8")
    text = made.model_dump_json(exclude_none=True)
    assert "error" not in json.loads(text)
    assert Prediction.model_validate_json(text) == made


def test_one_from_before_there_were_engines_can_be_read():
    text = Prediction.classified(IMAGE, [("犬", 1.0)], model="resnet18").model_dump_json(exclude_none=True)
    assert "engine" not in text
    read = Prediction.model_validate_json(text)
    assert (read.model, read.engine, read.precision) == ("resnet18", None, None)


@pytest.mark.parametrize("confidence", [-0.1, 1.1, float("nan")])
def test_a_confidence_is_a_probability(confidence):
    with pytest.raises(ValidationError):
        Prediction.classified(IMAGE, [("tabby", confidence)])


def test_predictions_do_not_share_their_lists():
    Prediction.failed(IMAGE, "broken", "…").timings["fetch"] = 1.0
    assert Prediction.failed(IMAGE, "broken", "…").timings == {}
