from dataclasses import dataclass, replace
from typing import IO

from cloud.prediction import Failure


@dataclass(frozen=True)
class Upload:
    image_id: str
    stream: IO[bytes]
    content_type: str
    refusal: Failure | None
    """Why this file cannot be classified, when its header already tells."""
    sha256: str
    """Of its bytes, as hex digits."""

    def of(self, request_id: str) -> "Upload":
        """The same file, as an image of another request."""
        return replace(self, image_id=f"{request_id}/{self.image_id.partition('/')[2]}")
