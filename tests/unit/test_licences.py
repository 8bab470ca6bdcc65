import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_package_that_is_shipped_has_its_licence_listed():
    locks = [ROOT / tier / "requirements.txt" for tier in ("controller", "worker")]
    shipped = {
        name for lock in locks for name in re.findall(r"^([a-z0-9._-]+)[=\[]", lock.read_text(), re.MULTILINE)
    }
    page = (ROOT / "docs" / "licences.md").read_text()
    table = page[: page.index("Some wheels")]
    listed = dict(re.findall(r"^\| ([a-z0-9._-]+) \| (.+) \|$", table, re.MULTILINE))
    del listed["package"], listed["---"]
    assert listed.keys() == shipped
    assert all(len(licence) > 2 for licence in listed.values())
