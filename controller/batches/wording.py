"""What people are told about a batch."""

from cloud.batches.batch import Listed
from controller.batches.progress import Progress
from controller.batches.summary import Summary

CANCELLED = "It was cancelled."
NEVER_ANSWERED = (
    "Its images were sent to the workers again and again, and none of them was answered. The log of the"
    " workers says why. Once that is mended, ask for a new batch."
)


def never_listed(reason: str) -> str:
    return (
        f"Its images could not be listed, however often that was tried ({reason}). The log of the controller"
        " says more. Once it is mended, ask for a new batch."
    )


def out_of_budget(progress: Progress) -> str:
    return (
        f"Its budget of ${progress.batch.budget:,.2f} was spent when {progress.answered:,} of"
        f" {progress.images:,} images were answered."
    )


def message(progress: Progress) -> str:
    """Returns a sentence that says what the batch waits for, or why it ended."""
    if progress.cancelled is not None:
        return progress.cancelled
    listed, source = progress.listed, progress.batch.source
    if listed is None:
        so_far = f": at least {progress.images:,} so far" if progress.images else ""
        return f"The images under {source} are being listed{so_far}."
    if listed.failure:
        before = f" {images(listed.images)} had been listed before." if listed.images else ""
        return listed.failure + before
    if not listed.images:
        return nothing_found(progress)
    if progress.summary:
        return finished(progress.summary, listed)
    if not progress.waiting:
        return "All images are answered, and the results are being summed up."
    if not progress.tally.objects:
        return f"{images(listed.images)} wait for the first instance to take them."
    left = f"; about {duration(progress.seconds_left)} left" if progress.seconds_left else ""
    return f"{progress.answered:,} of {images(listed.images)} are answered{left}."


def finished(summary: Summary, listed: Listed) -> str:
    failed = f" {summary.failed:,} of them failed." if summary.failed else ""
    more = f" The source has more images than these {listed.images:,}." if listed.truncated else ""
    return f"All {images(summary.images)} are answered.{failed}{more}"


def nothing_found(progress: Progress) -> str:
    listed, source = progress.listed, progress.batch.source
    if listed and listed.other_objects:
        endings = ", ".join(progress.batch.suffixes)
        return f"Of {listed.other_objects:,} objects under {source}, none is an image by its end ({endings})."
    return f"There is nothing under {source}."


def images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
