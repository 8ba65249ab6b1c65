import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.store.jsonl import append_line, read_lines, truncate_after, write_lines

ROWS = [{"step": 1, "loss": 2.5}, {"step": 2, "text": "a\nb ü \u2028 c"}, {"step": 3, "loss": math.inf}]


def test_appended_lines_come_back(tmp_path):
    for row in ROWS:
        append_line(tmp_path / "a" / "log.jsonl", row)
    assert read_lines(tmp_path / "a" / "log.jsonl") == ROWS


def test_nan_stays_nan(tmp_path):
    append_line(tmp_path / "log", {"step": 1, "loss": math.nan, "kl": None})
    (row,) = read_lines(tmp_path / "log")
    assert math.isnan(row["loss"])
    assert row["kl"] is None


def test_no_file_has_no_lines(tmp_path):
    assert read_lines(tmp_path / "none") == []
    truncate_after(tmp_path / "none", 3)
    assert not (tmp_path / "none").exists()


@given(cut=st.integers(min_value=0))
def test_wherever_a_write_is_cut_whole_lines_survive_and_the_log_goes_on(cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        write_lines(path, ROWS)
        content = path.read_bytes()
        cut %= len(content) + 1
        path.write_bytes(content[:cut])
        before = read_lines(path)
        assert before == ROWS[: len(before)]
        assert len(before) >= content[:cut].count(b"\n")
        append_line(path, {"step": 9})
        assert read_lines(path) == [*before, {"step": 9}]


def test_a_malformed_line_is_named(tmp_path):
    path = tmp_path / "log"
    path.write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    with pytest.raises(UsageError, match=r"log:2: not a line of JSON"):
        read_lines(path)
    path.write_text("[1]\n")
    with pytest.raises(UsageError, match=r"log:1: not a JSON object"):
        read_lines(path)


def test_truncate_after_keeps_earlier_steps_only(tmp_path):
    path = tmp_path / "log"
    write_lines(path, [{"step": 1}, {"step": 3}, {"note": "no step"}, {"step": 2, "a": 1}, {"step": 4}])
    truncate_after(path, 2)
    assert path.read_text() == '{"step":1}\n{"step":2,"a":1}\n'


def test_a_full_disk_leaves_the_lines_before(tmp_path, monkeypatch):
    path = tmp_path / "log"
    append_line(path, {"step": 1})
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    with pytest.raises(UsageError, match="disk is full; the lines before are untouched"):
        append_line(path, {"step": 2})
    assert path.read_text() == '{"step":1}\n'


def test_lines_survive_kill_9(tmp_path):
    code = (
        "import sys, os, signal; from pathlib import Path; from trimpot.store.jsonl import append_line\n"
        "[append_line(Path(sys.argv[1]), {'step': i}) for i in range(20)]; os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "log")], cwd=Path(__file__).parents[2])
    assert [row["step"] for row in read_lines(tmp_path / "log")] == list(range(20))


def test_lines_are_plain_json(tmp_path):
    append_line(tmp_path / "log", ROWS[0])
    assert json.loads((tmp_path / "log").read_text()) == ROWS[0]
