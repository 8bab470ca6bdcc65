from dataclasses import dataclass, replace
from typing import IO

from cloud.image_id import ImageId
from cloud.prediction import Failure


@dataclass(frozen=True)
class Upload:
    """One uploaded file."""

    image_id: ImageId
    stream: IO[bytes]
    content_type: str
    refusal: Failure | None
    """Why the file cannot be classified, if its header shows that. Otherwise None."""
    sha256: str
    """The SHA-256 of the file, as hex digits."""

    def of(self, request_id: str) -> "Upload":
        """Returns the same file as an image of another request."""
        return replace(self, image_id=ImageId(f"{request_id}/{self.image_id.name}"))
