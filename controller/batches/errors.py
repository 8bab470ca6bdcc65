"""The reasons to refuse a batch. controller/web/errors.py maps them to HTTP statuses."""

from controller.image_requests.errors import RequestRefused


class BadBatch(RequestRefused):
    """What is asked for cannot be understood. The message names each field that is wrong."""

    code = "bad_batch"


class SourceNotAllowed(RequestRefused):
    """The source is not among BATCH_SOURCES."""

    code = "source_not_allowed"


class TooManyBatches(RequestRefused):
    """As many batches are open as may be."""

    code = "too_many_batches"


class BatchesOff(RequestRefused):
    """BATCH_SOURCES is not set."""

    code = "batches_off"
