import pytest

from cloud.batches.batch import MOST_TOP_K, Batch, Listed, ListedImage, Manifest, Round, Row
from cloud.batches.slice import MOST_MANIFESTS, Slice
from cloud.batches.store import LARGEST_ROW, BatchStore, Result, manifest_key, results_of
from cloud.buckets import Bucket
from cloud.failure_code import FailureCode
from cloud.prediction import LONGEST_LABEL, Failure, Label, Status
from cloud.s3_url import LONGEST_KEY

BATCH = "0123456789abcdef" * 2


@pytest.fixture
def store(clients):
    for name in ("state", "output"):
        clients.s3.create_bucket(Bucket=name)
    return BatchStore(Bucket(clients.s3, "state"), Bucket(clients.s3, "output"))


def row(position, **more):
    return Row(position=position, key=f"cats/{position}.jpg", **more)


def classified(position):
    cat = Label(label="cat", confidence=0.9)
    return row(position, status=Status.CLASSIFIED, label="cat", confidence=0.9, predictions=(cat,))


def failed(position):
    failure = Failure(code=FailureCode.IMAGE_MISSING, message="It is gone.")
    return row(position, status=Status.FAILED, error=failure)


def test_a_new_batch_is_open_until_it_is_closed(store):
    batch = Batch(batch_id=BATCH, source="s3://lab/cats/2026", top_k=3)
    store.put(batch)
    assert store.get(BATCH) == batch
    assert (batch.bucket, batch.prefix) == ("lab", "cats/2026")
    assert store.open() == [BATCH]
    store.close(BATCH)
    assert store.open() == []


def test_the_first_manifest_and_the_first_totals_stay(store):
    first = Manifest(images=(ListedImage(key="a.jpg", etag='"1"', size=5),))
    assert store.put_manifest(BATCH, 0, first)
    assert not store.put_manifest(BATCH, 0, Manifest(images=()))
    assert store.manifest(BATCH, 0) == first
    assert store.put_listed(BATCH, Listed(images=1, manifests=1, bytes=5))
    assert not store.put_listed(BATCH, Listed(images=2, manifests=1, bytes=5))
    assert store.listed(BATCH).images == 1
    assert [number for number, _ in store.manifests(BATCH)] == [0]


def test_the_order_of_the_keys_is_that_of_the_manifests():
    keys = [manifest_key("b", number) for number in (0, 9, 10, 10_000, 10_001, MOST_MANIFESTS - 1)]
    assert keys == sorted(keys)


def test_a_listing_of_the_results_shows_the_progress(store):
    rows = [classified(4), failed(5), classified(9)]
    result = store.put_rows(Slice.of(BATCH, 3, [4, 5, 9]), rows, 1.25)
    (found,) = store.results(BATCH)
    assert found.key == result.key
    assert (found.manifest, found.round, found.start, found.end) == (3, 1, 4, 10)
    assert (found.rows, found.failures, found.milliseconds) == (3, 1, 1250)
    assert found.written_at is not None
    assert store.rows(found) == rows
    assert list(store.results(BATCH, manifest=4)) == []


def test_objects_of_others_are_no_results(store):
    store.outputs.write(f"batches/{BATCH}/results/readme.txt", b"")
    assert list(store.results(BATCH)) == []
    assert Result.read("batches/x/results/00000/r1-0-1-n1-f0-ms3.jsonl") is None


@pytest.mark.parametrize(
    "name",
    [
        "r1-0-5-n0-f0-ms1",
        "r1-0-5-n6-f0-ms1",
        "r1-0-5-n5-f6-ms1",
        "r1-5-0-n1-f0-ms1",
        "r1-999-1001-n2-f0-ms1",
        "r1-0-80000000000-n80000000000-f0-ms1",
        f"r1-0-5-n5-f0-ms{'9' * 400}",
        f"r{'9' * 400}-0-5-n5-f0-ms1",
        "r0-0-5-n5-f0-ms1",
        "r1-0-05-n5-f0-ms1",
        "r1-0-٥-n5-f0-ms1",
    ],
)
def test_a_name_that_no_worker_writes_is_no_result(store, name):
    store.outputs.write(f"{results_of(BATCH)}00000/{name}.jsonl", b"")
    assert list(store.results(BATCH)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: b"{",
        lambda rows: b"[" * 30_000,
        lambda rows: b"\xff",
        lambda rows: b"",
        lambda rows: rows * 2,
        lambda rows: rows.replace(b'"position":0', b'"position":-1'),
        lambda rows: rows.replace(b'"position":0', b'"position":1000000000000'),
        lambda rows: rows.replace(b"0.9", b"NaN"),
        lambda rows: rows.replace(b'"label":"cat",', b""),
        lambda rows: rows.replace(b"cat", b"x" * LARGEST_ROW),
        lambda rows: rows.replace(
            b'"predictions":[', b'"predictions":[' + b'{"label":"a","confidence":0.5},' * MOST_TOP_K
        ),
    ],
)
def test_a_result_that_is_not_what_its_name_says_has_no_rows(store, change, caplog):
    result = store.put_rows(Slice.of(BATCH, 0, [0]), [classified(0)], 1)
    rows, _ = store.outputs.read(result.key)
    store.outputs.write(result.key, change(rows))
    assert store.rows(result) == []
    assert "is broken" in caplog.text


def test_the_longest_row_that_a_worker_writes_can_be_read(store):
    labels = [Label(label="ก" * (LONGEST_LABEL // 3), confidence=1 / 3)] * MOST_TOP_K
    longest = Row(
        position=999,
        key="k" * LONGEST_KEY,
        status=Status.CLASSIFIED,
        label=labels[0].label,
        confidence=1 / 3,
        predictions=labels,
    )
    result = store.put_rows(Slice.of(BATCH, 0, [999]), [longest], 1)
    assert store.rows(result) == [longest]


def test_a_result_in_an_archive_has_no_rows(store, caplog):
    result = store.put_rows(Slice.of(BATCH, 0, [0]), [classified(0)], 1)
    rows, _ = store.outputs.read(result.key)
    store.outputs.write(result.key, rows, StorageClass="GLACIER")
    assert store.rows(result) == []
    assert "is broken" in caplog.text


def test_why_a_batch_was_cancelled_is_kept(store):
    assert store.cancelled(BATCH) is None
    store.cancel(BATCH, "It was cancelled by its client.")
    store.cancel(BATCH, "Too late.")
    assert store.cancelled(BATCH) == "It was cancelled by its client."


def test_a_manifest_that_is_not_written_yet_is_none(store):
    assert store.manifest(BATCH, 7) is None
    assert store.listed(BATCH) is None


def test_a_later_round_is_open_until_it_is_closed(store):
    store.put(Batch(batch_id=BATCH, source="s3://lab/cats"))
    store.close(BATCH)
    assert store.put_round(BATCH, 2, Round(images=1, parts=(Slice.of(BATCH, 0, [5], 2),)))
    ((batch_id, round, _),) = store.opened()
    assert (batch_id, round, store.open()) == (BATCH, 2, [BATCH])
    store.close(BATCH, 1)
    assert store.open() == [BATCH]
    store.close(BATCH, 2)
    assert store.open() == []


def test_the_notes_of_a_batch_are_the_names_of_what_is_stored_about_it(store):
    store.put(Batch(batch_id=BATCH, source="s3://lab/cats"))
    store.put_manifest(BATCH, 0, Manifest(images=()))
    store.put_listed(BATCH, Listed(images=0, manifests=1, bytes=0))
    assert store.notes(BATCH) == {"batch.json", "listed.json", "manifests/"}
    assert list(store.batch_ids()) == [BATCH]


def test_a_stray_marker_stops_nobody(store, caplog):
    for name in ("notes.txt", f"{BATCH}-two", f"{BATCH}-0", f"{BATCH}-3"):
        store.state.write(f"open-batches/{name}", b"")
    assert [(one.batch_id, one.round) for one in store.opened()] == [(BATCH, 3)]
    assert "open-batches/notes.txt" in caplog.text
