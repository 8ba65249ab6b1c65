import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trimpot.core.errors import UsageError
from trimpot.store import atomic


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_half(final, name, error):
    with atomic.atomic_folder(final) as folder:
        (folder / name).write_text("half")
        raise error


def test_write_replaces_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a" / "x.json"
    atomic.write_json(path, {"b": 1, "ü": None})
    atomic.write_text(path, "new")
    assert path.read_text() == "new"
    assert [item.name for item in path.parent.iterdir()] == ["x.json"]


def test_full_disk_keeps_the_previous_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    atomic.write_text(path, "old")
    monkeypatch.setattr(atomic.os, "fsync", full_disk)
    with pytest.raises(UsageError, match=r"the disk is full; the previous file is untouched\. Free") as caught:
        atomic.write_text(path, "new")
    assert caught.value.where == str(path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_other_errors_are_not_called_a_full_disk(tmp_path, monkeypatch):
    def broken(_):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(atomic.os, "fsync", broken)
    with pytest.raises(OSError, match="input/output"):
        atomic.write_text(tmp_path / "x", "new")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EDQUOT, "quota"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    ],
)
def test_full_disk_while_a_folder_is_written(tmp_path, error):
    final = tmp_path / "step-1"
    with atomic.atomic_folder(final) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(UsageError, match="disk is full") as caught:
        write_half(final, "a", error)
    assert caught.value.where == str(final)
    assert (final / "a").read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["step-1"]


def test_folder_is_replaced_whole(tmp_path):
    final = tmp_path / "model"
    with atomic.atomic_folder(final) as folder:
        (folder / "old").write_text("1")
        (folder / "deep").mkdir()
        (folder / "deep" / "x").write_text("1")
        assert not final.exists()
    with atomic.atomic_folder(final) as folder:
        (folder / "new").write_text("2")
    assert [item.name for item in final.iterdir()] == ["new"]
    assert [item.name for item in tmp_path.iterdir()] == ["model"]


def test_failure_leaves_previous_folder(tmp_path):
    final = tmp_path / "model"
    with atomic.atomic_folder(final) as folder:
        (folder / "x").write_text("1")
    with pytest.raises(KeyboardInterrupt):
        write_half(final, "x", KeyboardInterrupt())
    assert (final / "x").read_text() == "1"
    assert len(list(tmp_path.iterdir())) == 1


def test_leftover_of_a_killed_process_is_removed_and_a_live_one_kept(tmp_path):
    final = tmp_path / "step-2"
    code = (
        "import sys, os, signal; from pathlib import Path; from trimpot.store.atomic import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'x').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(final)], cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    assert not final.exists()
    assert len(list(tmp_path.glob(".step-2.*"))) == 1
    with atomic.atomic_folder(final) as mine:
        assert list(tmp_path.glob(".step-2.*")) == [mine]
        with atomic.atomic_folder(final) as other:
            assert mine.exists()
            (other / "from").write_text("other")
        (mine / "from").write_text("mine")
    assert (final / "from").read_text() == "mine"


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    (tmp_path / ".model.0123456789ab.old").mkdir()
    (tmp_path / ".model.0123456789ab.old" / "x").write_text("previous")
    with pytest.raises(ValueError), atomic.atomic_folder(tmp_path / "model"):
        raise ValueError
    assert (tmp_path / "model" / "x").read_text() == "previous"
