"""Reads the `s3://bucket/key` of settings and sources."""


def bucket_and_key_of(url: str) -> tuple[str, str]:
    """Returns the bucket, and the key or the prefix, which may be empty."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key
