"""What a hostile program can do in the sandbox: nothing that counts, and nothing that stays."""

import json
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimpot.core.errors import UsageError
from trimpot.evaluation.suites.code import plain
from trimpot.evaluation.suites.code.sandbox import ROOT, Limits, run_tests
from trimpot.evaluation.suites.code.system_calls import ABSENT, LIMITS, OPENS, REFUSED, filter_program

TEST = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-3) == -6\n"
RIGHT = "def f(x):\n    return 2 * x\n"
linux = pytest.mark.skipif(not filter_program(), reason="the kernel's filter is for Linux on x86_64 and aarch64")


def verdict(program: str, test: str = TEST, **limits):
    return run_tests(program, "f", "def f(x):\n    ''\n", test, Limits(**limits))


def test_a_right_program_passes_and_a_wrong_one_does_not():
    assert verdict(RIGHT).passed
    wrong = verdict("def f(x):\n    return x + 2\n")
    assert (wrong.passed, wrong.why) == (False, "wrong answer")


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import os\nos._exit(0)", "ended without an answer"),
        ("import sys\nsys.exit(0)", "SystemExit"),
        ("raise SystemExit", "SystemExit"),
        ("def f(x):\n    import os\n    os._exit(0)", "ended without an answer"),
        ("def f(x):\n    raise SystemExit(0)", "raised SystemExit"),
        ("def f(x):\n    raise AssertionError", "raised RuntimeError"),
        ("def f(x)\n    return 4", "SyntaxError"),
        ("g = 1", "no function f"),
        ("f = 4", "no function f"),
        ("def f(x):\n    return undefined", "raised NameError"),
        # Marks of success in whatever form the harness might read them.
        ('print(\'{"passed": true, "why": ""}\')\nimport os\nos._exit(0)', "ended without an answer"),
        ("def f(x):\n    print('passed')\n    return 0", "wrong answer"),
        (
            'import os\nfor n in range(3, 32):\n    try:\n        os.write(n, b\'{"passed": true, "why": ""}\\n\')\n'
            "    except OSError: pass\nos._exit(0)",
            # Nobody reads the line as a verdict; it is the answer to "is there a function", and no call follows.
            "ended",
        ),
        # An object that equals everything, also as a subclass of what is asked for.
        ("class A:\n    def __eq__(self, other): return True\ndef f(x): return A()", "raised NotPlainError"),
        ("class A(int):\n    def __eq__(self, other): return True\ndef f(x): return A(0)", "wrong answer"),
        # The tests are not in this process: no frame and no object holds them.
        (
            "import gc\ndef f(x):\n    seen = [o for o in gc.get_objects() if isinstance(o, dict) and 'check' in o]\n"
            "    return 4 if seen else 0",
            "wrong answer",
        ),
    ],
)
def test_tricks_do_not_pass(program, why):
    found = verdict(program)
    assert not found.passed
    assert why in found.why


def test_an_endless_loop_ends_at_its_time_limit():
    began = time.monotonic()
    for program in ("while True: pass", "def f(x):\n    while True: pass", "import time\ntime.sleep(60)"):
        assert verdict(program, seconds=0.5).why == "time limit"
    assert time.monotonic() - began < 8


def test_a_memory_bomb_meets_the_limit_and_nothing_else_does():
    assert verdict("def f(x):\n    return len('a' * (1 << 31))", memory_mib=128).why == "raised MemoryError"
    assert verdict(f"kept = 'a' * (1 << 26)\n{RIGHT}", memory_mib=512).passed


def test_answers_that_flood_the_checker_are_cut():
    assert verdict("def f(x):\n    return 'a' * (1 << 22)").why == "answer too long"
    assert verdict("def f(x):\n    y = []\n    y.append(y)\n    return y").why == "raised NotPlainError"


ATTEMPT = """
def f(x):
    try:
        {attempt}
    except (PermissionError, OSError, RuntimeError) as error:
        return 2 * x
    return "done"
"""


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.socket()",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
        "import os; os.fork()",
        "import os; os.system('true')",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.execv('/bin/true', ['true'])",
        "import multiprocessing as m; m.Process(target=print).start()",
        "import os; os.kill(os.getppid(), 9)",
        "open('WHERE', 'w')",
        "import os; os.open('WHERE', os.O_CREAT | os.O_WRONLY)",
        "import os; os.mkdir('WHERE')",
        "import os; os.remove('KEPT')",
        "import os; os.rename('KEPT', 'WHERE')",
        "import os; os.chmod('KEPT', 0)",
        "import os; os.symlink('KEPT', 'WHERE')",
        "import os; os.truncate('KEPT', 0)",
        "open('here.txt', 'w')",
        "import tempfile; tempfile.NamedTemporaryFile()",
        "open('KEPT').read()",
        "open('/proc/self/environ').read()",
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "import ctypes; ctypes.CDLL(None)",
    ],
)
def test_writing_reading_network_and_processes_are_refused(attempt, tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("kept")
    attempt = attempt.replace("WHERE", str(tmp_path / "made")).replace("KEPT", str(kept))
    found = verdict(ATTEMPT.format(attempt=attempt))
    assert found.passed, found.why
    assert kept.read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert kept.stat().st_mode & 0o400


def test_the_same_attempts_succeed_outside(tmp_path):
    """Otherwise the test above would show nothing."""
    space = {}
    exec(ATTEMPT.format(attempt=f"open({str(tmp_path / 'made')!r}, 'w')"), space)
    assert space["f"](2) == "done"


@linux
def test_the_kernel_refuses_what_python_would_let_through(tmp_path):
    """The filter alone, without the audit hook, in a process that asks the kernel directly."""
    script = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import ctypes, json, os, socket, resource, threading
from trimpot.evaluation.suites.code.guest import _filter
from trimpot.evaluation.suites.code.system_calls import filter_program
library = ctypes.CDLL(None, use_errno=True)
assert _filter(filter_program())
found = {{}}
def attempt(name, call):
    try:
        found[name] = call()
    except (OSError, ValueError, RuntimeError) as error:
        found[name] = "refused"
os.chdir({str(tmp_path)!r})
attempt("socket", lambda: socket.socket() and 1)
attempt("fork", lambda: os.fork() and 1)
attempt("thread", lambda: threading.Thread(target=print).start())
attempt("exec", lambda: os.execv("/bin/true", ["true"]))
attempt("write", lambda: open("made", "w") and 1)
attempt("read and write", lambda: open({str(tmp_path / "kept")!r}, "r+") and 1)
attempt("delete", lambda: os.remove("kept"))
attempt("limit", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9)))
attempt("signal", lambda: os.kill(os.getppid(), 0))
attempt("read", lambda: open("kept").read())
attempt("read limit", lambda: resource.getrlimit(resource.RLIMIT_NOFILE) and 1)
ctypes.set_errno(0)
library.syscall(ctypes.c_long({dict((n, x) for n, x, _ in ABSENT)["io_uring_setup"]}), ctypes.c_long(1), None)
found["io_uring"] = ctypes.get_errno()
print(json.dumps(found))
"""
    (tmp_path / "kept").write_text("kept")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    allowed = {name: value for name, value in found.items() if value != "refused"}
    assert allowed == {"read": "kept", "read limit": 1, "io_uring": 38}
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 1), ("aarch64", 2)])
def test_the_numbers_of_the_calls_are_those_of_the_kernel_headers(machine, column):
    if not HEADERS[machine].is_file():
        pytest.skip("needs: apt-get install linux-libc-dev")
    text = HEADERS[machine].read_text()
    known = {name: int(n) for name, n in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    table = [row[: column + 1 : column] for row in (*REFUSED, *ABSENT, *OPENS, LIMITS)]
    newer = {"fchmodat2"}  # Linux 6.6
    assert {name: number for name, number in table if name not in newer and known.get(name) != number} == {}


def test_there_is_a_filter_for_both_machines_and_none_for_others():
    assert len(filter_program("x86_64")) % 8 == 0
    assert len(filter_program("x86_64")) // 8 < 4096  # the kernel's limit
    assert filter_program("aarch64")
    assert filter_program("riscv64") == b""


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_cross_unchanged(value):
    back = plain.decode(json.loads(json.dumps(plain.encode(value))))
    assert back == value
    assert type(back) is type(value)


def test_sets_ranges_iterators_and_subclasses_cross_as_what_they_are():
    from collections import Counter, OrderedDict

    def through(value):
        return plain.decode(json.loads(json.dumps(plain.encode(value))))

    assert through({1, 2}) == {1, 2}
    assert through(frozenset("a")) == frozenset("a")
    assert through(range(3, 9, 2)) == range(3, 9, 2)
    assert list(through(map(str, (1, 2)))) == ["1", "2"]
    assert type(through(Counter("aab"))) is dict
    assert through(OrderedDict(a=1)) == {"a": 1}
    assert str(through(float("nan"))) == "nan"


@pytest.mark.parametrize("value", [object(), print, [object()], {"a": object()}])
def test_other_values_do_not_cross(value):
    with pytest.raises(plain.NotPlainError):
        plain.encode(value)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=10))
def test_what_is_no_encoded_value_is_refused_or_plain(written):
    try:
        plain.decode(written)
    except plain.NotPlainError:
        return
    kind = written[0]
    assert kind in ("constant", "int", "float", "str", "bytes", "list", "tuple", "set", "iterator", "frozenset", "dict")


def test_a_checker_that_fails_is_an_error_and_not_a_wrong_answer(monkeypatch):
    monkeypatch.setattr("trimpot.evaluation.suites.code.sandbox.ROOT", Path("/nowhere"))
    with pytest.raises(UsageError, match="the tests of f could not run"):
        verdict(RIGHT)


def test_the_machine_of_this_test_has_the_filter_if_it_can():
    assert bool(filter_program()) == (sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64"))
