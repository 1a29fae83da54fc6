import pytest

from o3bnn.model.files import check_writable


def test_check_writable_leaves_nothing_behind(tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    for name in ("old", "new"):
        check_writable(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"
    with pytest.raises(FileNotFoundError):
        check_writable(tmp_path / "missing" / "new")
    with pytest.raises(IsADirectoryError):
        check_writable(tmp_path)
