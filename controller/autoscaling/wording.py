def some(count: int, one: str, many: str) -> str:
    """Returns a number with its noun, such as `1 image` or `1,000 images`."""
    return f"{count:,} {one if count == 1 else many}"
