"""Makes moto handle one S3 call at a time, because its S3 is not thread-safe.

moto checks a condition (If-Match, If-None-Match) before it writes and takes no lock, so two writers can both
succeed. It may also read an object that another thread has closed, or compute an ETag while two threads read
the same file in turns.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

from moto.s3.responses import S3Response

# moto calls these once the body of a request has been read, so a slow upload does not hold the lock.
RESPONSES = {name: getattr(S3Response, name) for name in ("_bucket_response", "_key_response")}

_lock = threading.Lock()


def _locked(response: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(response)
    def answer(*args: Any, **kwargs: Any) -> Any:
        with _lock:
            return response(*args, **kwargs)

    return answer


def mend_moto() -> None:
    """Replaces the response methods of moto's S3. May be called more than once."""
    for name, response in RESPONSES.items():
        setattr(S3Response, name, _locked(response))
