"""Lets messages come back in a while, because AWS fails and their images are not to blame."""

import logging
from collections.abc import Sequence

from cloud.errors import CloudError
from cloud.request_queue import Message, RequestQueue

log = logging.getLogger(__name__)

MOST_POSTPONED = 9
"""How often a message may be postponed, each time by a visibility timeout.

An image that S3 does not return even then is answered failed.
"""


def postpone(queue: RequestQueue, messages: Sequence[Message], seconds: float) -> None:
    """Makes the messages visible again in `seconds`. That they were received does not count.

    It counts for those that were postponed too often, and they come back after the visibility timeout: if
    nobody may write the answers, their images must be given up some time.
    """
    again = [message for message in messages if message.postponed < MOST_POSTPONED]
    if len(again) < len(messages):
        log.error("%d messages were postponed too often; they count as received", len(messages) - len(again))
    try:
        queue.postpone(again, seconds)
    except CloudError as error:
        log.warning("%s; the messages come back after the visibility timeout", error)
