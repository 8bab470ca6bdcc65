import mmap

from bench.disk_at_start import mapped_bytes, read_bytes


def test_what_is_read_counts(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(3_000_000))
    before = read_bytes()
    file.read_bytes()
    assert 3_000_000 <= read_bytes() - before < 3_500_000


def test_of_what_is_mapped_only_what_is_used_counts(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(8_000_000))
    assert str(file) not in mapped_bytes()
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped_bytes()[str(file)] == 0
        assert mapped[:4_000_000:1024] == bytes(3907)
        assert 4_000_000 <= mapped_bytes()[str(file)] < 8_000_000
    assert str(file) not in mapped_bytes()
