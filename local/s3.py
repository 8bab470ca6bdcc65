"""S3's calls, one at a time, where moto's threads get in each other's way.

moto first looks whether a condition (If-Match, If-None-Match) holds and then writes, so that two writers can
both win; and it reads an object that another thread closes, or works out an ETag from what two threads read
in turns.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

from moto.s3.responses import S3Response

AFTER_THE_BODY_CAME = {name: getattr(S3Response, name) for name in ("_bucket_response", "_key_response")}

_lock = threading.Lock()


def _locked(response: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(response)
    def answer(*args: Any, **kwargs: Any) -> Any:
        with _lock:
            return response(*args, **kwargs)

    return answer


def mend_moto() -> None:
    for name, response in AFTER_THE_BODY_CAME.items():
        setattr(S3Response, name, _locked(response))
