def some(count: int, one: str, many: str) -> str:
    """`1 image`, `1,000 images`."""
    return f"{count:,} {one if count == 1 else many}"
