"""Reads the `s3://bucket/key` of settings and sources, and says what can be a key."""

LONGEST_KEY = 1024  # bytes of UTF-8


def bucket_and_key_of(url: str) -> tuple[str, str]:
    """Returns the bucket, and the key or the prefix, which may be empty."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


def is_key(text: str) -> bool:
    """Returns whether an object can have this key."""
    return 0 < len(text.encode()) <= LONGEST_KEY
