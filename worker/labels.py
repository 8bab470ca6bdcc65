"""What a model says about an image."""

from typing import TypeAlias

LABELS = 5
"""How many labels a prediction has."""

Top: TypeAlias = list[tuple[str, float]]
"""The labels with the highest confidences, in descending order, each with its confidence from 0 to 1."""
