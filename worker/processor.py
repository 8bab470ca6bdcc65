"""Identifies the processor, because an artefact that runs on one may not run on another."""

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = ("avx", "amx", "fma", "sse4", "asimd", "bf16", "i8mm", "sve")
"""How the names of those flags begin, or end, that say which instructions an inference engine can use."""


def processor(cpuinfo: Path = CPUINFO) -> str:
    """Returns the name of this machine's processor and its instructions for arithmetic, as one line."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}".strip()
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        found.setdefault(name.strip().lower(), value.strip())
    flags = (found.get("flags") or found.get("features") or "").split()
    useful = sorted(flag for flag in flags if flag.startswith(INSTRUCTIONS) or flag.endswith(INSTRUCTIONS))
    name = found.get("model name") or " ".join(
        found.get(key, "") for key in ("cpu implementer", "cpu part", "cpu variant")
    )
    return " ".join([platform.machine(), *name.split(), *useful])
