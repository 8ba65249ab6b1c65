"""The response cache: keyed by content, shared by processes, and an evaluation that was killed repeats nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.scripted import ScriptedModel
from trimpot.core.errors import UsageError
from trimpot.core.rows import Message
from trimpot.evaluation.cache import CachedModel, ResponseCache, _batches
from trimpot.evaluation.language_model import Identity, Request
from trimpot.evaluation.runner import evaluate_tasks
from trimpot.evaluation.task import Decoding, Item, Task


class Checkpoint:
    """A scripted model whose identity is given, as two checkpoints of one shape have different weights."""

    def __init__(self, identity: Identity, answer: str = "x") -> None:
        self.inner, self.identity = ScriptedModel(lambda prompt, sample: f"{answer}{sample}"), identity

    def __getattr__(self, name):
        return getattr(self.inner, name)


def items(count: int) -> tuple[Item, ...]:
    return tuple(Item(f"{number}?", answer=str(number)) for number in range(count))


def echo(prompt: str, sample: int) -> str:
    return prompt.rstrip("?")


def test_what_was_asked_is_not_asked_again_also_by_the_next_run(tmp_path):
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        first = ScriptedModel(echo)
        model = CachedModel(first, cache)
        pairs = [("a", " b"), ("a", " c")]
        answers = model.generate_until([Request("1?", 8), Request("2?", 8)])
        likelihoods, whole = model.loglikelihood(pairs), model.loglikelihood_rolling(["text"])
        assert (model.hits, model.asked) == (0, 5)
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        second = ScriptedModel(lambda prompt, sample: pytest.fail("was asked again"))
        model = CachedModel(second, cache)
        assert model.generate_until([Request("2?", 8), Request("1?", 8)]) == answers[::-1]
        assert model.loglikelihood(pairs) == likelihoods
        assert model.loglikelihood_rolling(["text"]) == whole
        assert (model.hits, model.asked) == (5, 0)
        assert second.pairs == []


def test_a_request_that_is_there_twice_is_asked_once(tmp_path):
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        inner = ScriptedModel(echo)
        answers = CachedModel(inner, cache).generate_until([Request("1?", 8), Request("2?", 8), Request("1?", 8)])
        assert [answer.text for answer in answers] == ["1", "2", "1"]
        assert len(inner.requests) == 2


SAME = Identity("a", "weights", "tokenizer", "template")


@pytest.mark.parametrize("part", ["weights", "tokenizer", "template"])
def test_checkpoints_that_differ_in_one_part_never_share_an_answer(tmp_path, part):
    other = replace(SAME, **{part: "another"})
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        CachedModel(Checkpoint(SAME, "one"), cache).generate_until([Request("1?", 8)])
        model = CachedModel(Checkpoint(other, "two"), cache)
        assert model.generate_until([Request("1?", 8)])[0].text == "two0"
        assert model.asked == 1
        assert len(cache) == 2


def test_a_name_is_no_part_of_the_key(tmp_path):
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        CachedModel(Checkpoint(SAME), cache).generate_until([Request("1?", 8)])
        model = CachedModel(Checkpoint(replace(SAME, name="copy")), cache)
        model.generate_until([Request("1?", 8)])
        assert (model.hits, model.asked) == (1, 0)


BASE = Request("1?", 8)
OTHERS = [
    replace(BASE, sample=1),
    replace(BASE, temperature=0.5),
    replace(BASE, max_tokens=9),
    replace(BASE, stop=("\n",)),
    replace(BASE, prompt="2?"),
    replace(BASE, prompt=(Message("user", "1?"),)),
]


def test_draws_decodings_and_prompts_have_answers_of_their_own(tmp_path):
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        model = CachedModel(Checkpoint(SAME), cache)
        model.generate_until([BASE, *OTHERS])
        assert model.asked == len(OTHERS) + 1
        assert [one.text for one in model.generate_until([BASE, OTHERS[0]])] == ["x0", "x1"]


def test_a_text_that_looks_like_a_rendered_conversation_is_another_request(tmp_path):
    conversation = (Message("user", "1?"),)
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        model = CachedModel(ScriptedModel(echo), cache)
        model.generate_until([Request(conversation, 8), Request(model.rendered(conversation), 8)])
        assert model.asked == 2


def test_a_change_of_the_code_that_answers_makes_the_cache_void(tmp_path, monkeypatch):
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        CachedModel(ScriptedModel(echo), cache).generate_until([BASE])
        monkeypatch.setattr("trimpot.evaluation.cache.code_version", lambda kind: "another")
        model = CachedModel(ScriptedModel(echo), cache)
        model.generate_until([BASE])
        assert model.asked == 1


class KilledError(Exception):
    pass


def dying(after: int, heard: list[str]) -> ScriptedModel:
    """A model that dies in the call that begins after so many answered prompts; ``heard`` are those of whole calls."""
    model = ScriptedModel(echo)
    asked, answered = model.generate_until, [0]

    def generate_until(requests, progress=None):
        if answered[0] + len(requests) > after:
            raise KilledError
        answered[0] += len(requests)
        heard.extend(request.prompt for request in requests)
        return asked(requests)

    model.generate_until = generate_until
    return model


def without_time(outcomes):
    return [replace(one, seconds=None) for one in outcomes]


@pytest.mark.parametrize("batch", [1, 8])
def test_an_evaluation_killed_three_times_equals_one_undisturbed_and_no_item_is_asked_twice(tmp_path, batch):
    tasks = [
        Task("a", "generate", items(20), "exact", Decoding(max_tokens=8)),
        Task("b", "generate", items(30)[20:], "exact", Decoding(max_tokens=8)),
    ]
    heard: list[str] = []
    for after in (7 if batch == 1 else 8, 9, 8):
        with ResponseCache(tmp_path / "c.sqlite") as cache, pytest.raises(KilledError):
            evaluate_tasks(CachedModel(dying(after, heard), cache, batch), tasks, "r")
    assert 0 < len(heard) < 30
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        model = CachedModel(dying(1000, heard), cache, batch)
        resumed = evaluate_tasks(model, tasks, "r")
        assert model.hits + model.asked == 30
    assert len(heard) == len(set(heard)) == 30
    assert without_time(resumed) == without_time(evaluate_tasks(ScriptedModel(echo), tasks, "r"))


def test_a_resumed_evaluation_keeps_what_its_answers_took(tmp_path):
    task = Task("a", "generate", items(4), "exact", Decoding(max_tokens=8))

    class Slow(ScriptedModel):
        def generate_until(self, requests, progress=None):
            time.sleep(0.02)
            return super().generate_until(requests)

    with ResponseCache(tmp_path / "c.sqlite") as cache:
        slow = evaluate_tasks(CachedModel(Slow(echo), cache), [task], "r")
        again = evaluate_tasks(CachedModel(Slow(echo), cache), [task], "r")
    assert slow[0].seconds == pytest.approx(again[0].seconds)
    assert again[0].seconds >= 0.02 / 4


def test_batches_are_cut_by_letters_and_go_on_with_the_same_cuts():
    shown = [[100, [], 0.0, "text", "q" * 1000, n] for n in range(40)]
    keys = [str(n) for n in range(40)]
    batches = list(_batches(keys, shown, 64))
    # A request is 4 + 1000 + 4 · 100 letters of 16384: 11 to a batch.
    assert [len(one) for one in batches] == [11, 11, 11, 7]
    assert list(_batches(keys[22:], shown[22:], 64)) == batches[2:]
    assert [len(one) for one in _batches(keys, shown, 4)] == [4] * 10


def test_what_likelihoods_share_counts_once_in_a_batch():
    shots = "x" * 10_000
    shown = [["text", f"{shots}{n:02}", " yes"] for n in range(50)]
    assert [len(one) for one in _batches([str(n) for n in range(50)], shown, 64)] == [50]
    apart = [["text", f"{n:02}{shots}", " yes"] for n in range(5)]
    assert [len(one) for one in _batches([str(n) for n in range(5)], apart, 64)] == [1] * 5


class Telling:
    """A model that tells of every answer as it comes, and fails before the last, as an endpoint does."""

    def __init__(self, fails: bool) -> None:
        self.inner, self.fails = ScriptedModel(echo), fails
        self.answered = lambda request, answer: None

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def generate_until(self, requests, progress=None):
        found = []
        for number, request in enumerate(requests):
            if self.fails and number == 3:
                raise KilledError
            found += self.inner.generate_until([request])
            self.answered(request, found[-1])
        return found


def test_a_model_that_tells_of_every_answer_loses_none_to_a_failure(tmp_path):
    requests = [Request(f"{number}?", 8) for number in range(5)]
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        with pytest.raises(KilledError):
            CachedModel(Telling(fails=True), cache).generate_until(requests)
        assert len(cache) == 3
        second = Telling(fails=False)
        model = CachedModel(second, cache)
        assert [one.text for one in model.generate_until(requests)] == ["0", "1", "2", "3", "4"]
        assert len(second.inner.requests) == 2


PROGRAM = """
import sys
from pathlib import Path
from tests.evaluation.scripted import ScriptedModel
from trimpot.evaluation.cache import CachedModel, ResponseCache
from trimpot.evaluation.language_model import Request
import time

def say(prompt, sample):
    with open(sys.argv[2], "a") as file:
        file.write(prompt + "\\n")
    time.sleep(float(sys.argv[3]))
    return prompt + sys.argv[4]

with ResponseCache(Path(sys.argv[1])) as cache:
    model = CachedModel(ScriptedModel(say), cache, batch=1)
    for answer in model.generate_until([Request(f"{n}", 20) for n in range(int(sys.argv[5]))]):
        print(answer.text)
"""


def process(tmp_path: Path, log: str, pause: float, answer: str = "!", count: int = 60) -> subprocess.Popen:
    arguments = [str(tmp_path / "c.sqlite"), str(tmp_path / log), str(pause), answer, str(count)]
    root = Path(__file__).parents[3]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=root, stdout=subprocess.PIPE, text=True, env={**os.environ}
    )


def test_two_processes_write_at_once_and_agree(tmp_path):
    running = [process(tmp_path, f"log-{name}", 0.002, name) for name in ("a", "b")]
    outputs = [one.communicate(timeout=60)[0].split() for one in running]
    assert [one.returncode for one in running] == [0, 0]
    # Whoever was first is what both report, and what the file holds.
    assert len(outputs[0]) == 60
    assert outputs[0] == outputs[1]
    with ResponseCache(tmp_path / "c.sqlite") as cache:
        assert len(cache) == 60


@pytest.mark.slow
def test_an_evaluation_killed_by_the_system_three_times_repeats_no_answer_it_kept(tmp_path):
    for _ in range(3):
        running = process(tmp_path, "log", 0.05)
        before = len((tmp_path / "log").read_text().split()) if (tmp_path / "log").exists() else 0
        while not (tmp_path / "log").exists() or len((tmp_path / "log").read_text().split()) < before + 8:
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        running.wait()
    done = process(tmp_path, "log", 0)
    output = done.communicate(timeout=60)[0].split()
    assert output == [f"{number}!" for number in range(60)]
    asked = (tmp_path / "log").read_text().split()
    # What was under way at a kill was never answered: at most one item each.
    assert len(set(asked)) == 60
    assert len(asked) <= 63


@pytest.mark.parametrize("content", [b"no database at all, but text" * 100, b""])
def test_a_damaged_file_is_one_line(tmp_path, content):
    path = tmp_path / "c.sqlite"
    path.write_bytes(content)
    if content:
        with pytest.raises(UsageError, match=r"c\.sqlite: is damaged or no response cache .* --no-cache") as caught:
            ResponseCache(path)
        assert "\n" not in str(caught.value)
    else:
        ResponseCache(path).close()


def test_a_damaged_page_is_one_line(tmp_path):
    path = tmp_path / "c.sqlite"
    with ResponseCache(path) as cache:
        cache.put({f"key {number}": ({"text": "x" * 100}, 0.0) for number in range(1000)})
    cache._database.close()
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"c\.sqlite"), ResponseCache(path) as cache:
        cache.get([f"key {number}" for number in range(1000)])


def test_another_database_is_not_touched(tmp_path):
    import sqlite3

    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE studies (id TEXT)")
    with pytest.raises(UsageError, match="SQLite file of something else"):
        ResponseCache(path)
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("studies",)]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        ResponseCache(tmp_path / "file" / "c.sqlite")
