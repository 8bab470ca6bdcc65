"""What Prometheus would read, and what its linter would say."""

import re
from collections import Counter as Outcomes
from collections.abc import Iterable

from prometheus_client import Counter, Metric
from prometheus_client.parser import text_string_to_metric_families

OF_THE_LIBRARY = ("python_", "process_")
NO_UNIT = {"milliseconds", "ms", "minutes", "hours", "kilobytes", "megabytes", "percent"}


def read(text: str) -> dict[str, Metric]:
    """Our families by name; a counter's is without `_total`, and none are `_created`."""
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {
        name: family
        for name, family in families.items()
        if not name.startswith(OF_THE_LIBRARY) and not name.endswith("_created")
    }


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    """Returns the sum of the samples of that name which have these labels, among others."""
    return sum(
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def by_outcome(counter: Counter) -> Outcomes[str]:
    """What it has counted so far in this process. The difference of two has those that have grown."""
    [family] = counter.collect()
    return Outcomes({s.labels["outcome"]: int(s.value) for s in family.samples if s.name.endswith("_total")})


def samples(families: dict[str, Metric]) -> set[str]:
    """Returns the names that an expression may use."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}
    return {f"{name}{suffix}" for name, family in families.items() for suffix in suffixes[family.type]}


def faults(families: Iterable[Metric]) -> list[str]:
    """https://prometheus.io/docs/practices/naming/, as `promtool check metrics` has it."""
    found = []
    for family in families:
        words = family.name.split("_")
        if not re.fullmatch(r"classifier_[a-z0-9_]+", family.name):
            found.append(f"{family.name}: the name")
        if not family.documentation or family.documentation == "Multiprocess metric":
            found.append(f"{family.name}: no help")
        if NO_UNIT & set(words):
            found.append(f"{family.name}: not a base unit")
        if family.type not in ("counter", "gauge", "histogram"):
            found.append(f"{family.name}: the type {family.type}")
        if family.type != "counter" and words[-1] == "total":
            found.append(f"{family.name}: only counters end in _total")
        if words[-1] in ("count", "sum", "bucket", "info", family.type):
            found.append(f"{family.name}: a reserved ending")
    return found
