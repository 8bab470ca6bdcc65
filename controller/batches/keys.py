"""Treats all POSTs with the same `Idempotency-Key` as one batch.

The first one writes the id of its batch as the object of the key, before the batch itself. If it dies in
between, the next one writes the batch, with the same id.
"""

from pydantic import BaseModel

from cloud.buckets import Bucket, JsonObjects
from cloud.errors import Conflict
from controller.image_requests.errors import IdempotencyKeyReused


class KeyUse(BaseModel):
    """The content of a key's object: the batch that it belongs to."""

    batch_id: str
    fingerprint: str
    """A hash of what was asked."""


class Keys:
    def __init__(self, state: Bucket) -> None:
        self._uses = JsonObjects(state, KeyUse)

    def claim(self, name: str, fingerprint: str, batch_id: str) -> str:
        """Returns the id of the batch that belongs to a key, which is `batch_id` if the key is new.

        `name` is that of the key's object. Raises IdempotencyKeyReused when the key belongs to another batch,
        and CloudError when S3 fails.
        """
        try:
            self._uses.write(name, KeyUse(batch_id=batch_id, fingerprint=fingerprint), IfNoneMatch="*")
            return batch_id
        except Conflict:
            found = self._uses.get(name)
        if found is None or found.fingerprint != fingerprint:
            raise IdempotencyKeyReused(
                "This Idempotency-Key was used for something else. Ask for this batch with a new key."
            )
        return found.batch_id
