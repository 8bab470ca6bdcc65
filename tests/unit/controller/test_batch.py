import pytest

from cloud.image_id import new_shard
from controller.batch import follow, read_arguments
from controller.batches.errors import BadBatch
from controller.container import make_batches
from controller.image_requests.request_ids import RequestIds
from tests.support.batch_work import SOURCE, photos, work_off
from tests.support.threads import join_threads


def test_the_options_are_the_fields_of_the_post():
    order = read_arguments(
        [
            "s3://lab-photos/cats/",
            "--top-k",
            "3",
            "--suffixes",
            ".JPG,.png",
            "--budget",
            "$2",
            "--requester-pays",
        ]
    )
    assert (order.source, order.top_k, order.suffixes) == ("s3://lab-photos/cats/", 3, (".jpg", ".png"))
    assert (order.budget, order.requester_pays, order.limit) == (2.0, True, None)


@pytest.mark.parametrize(("option", "spot"), [(["--spot"], True), (["--no-spot"], False), ([], None)])
def test_a_batch_may_ask_for_spot_instances_or_for_none_of_them(option, spot):
    assert read_arguments(["s3://lab-photos", *option]).spot is spot


def test_a_wrong_option_is_explained():
    with pytest.raises(BadBatch, match="top_k is '99', but it should be a whole number from 1 to 20"):
        read_arguments(["s3://lab-photos", "--top-k", "99"])


def test_it_lists_the_batch_itself_and_tells_how_far_it_is(settings, aws, batch_queue, state, capsys):
    photos(aws.s3, "1.jpg", "2.jpg")
    sources = settings.model_copy(update={"batch_sources": (f"s3://{SOURCE}",)})
    batches = make_batches(sources, aws, RequestIds(state, new_shard()))
    batch_id = batches.ask(read_arguments([f"s3://{SOURCE}"]), client="").batch_id
    join_threads("list-batch")
    work_off(batches.store, batch_queue)
    batches.watch.of(batch_id).forget()
    batches.keeper.look()
    assert follow(batches, batch_id).classified == 2
    assert capsys.readouterr().out == "All 2 images are answered.\n"
