"""The page of a comparison: one file, exact data, and nothing of the models' in it but text."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from tests.evaluation.compare.made import outcome, side
from tests.site.comparison_example import sides
from tests.site.test_report import Page
from trimpot.cli import compare as commands
from trimpot.core.errors import UsageError
from trimpot.evaluation.compare.compare import compare_table
from trimpot.evaluation.compare.frames import frame_of
from trimpot.evaluation.compare.settings import CompareSettings
from trimpot.evaluation.compare.table import pair
from trimpot.site.comparison_page import Answers, render, write_page
from trimpot.store.outcomes import write_outcomes

HOSTILE = '</script><img src=x onerror="alert(1)"><!-- <script> {{ 7 * 7 }} \u2028 &amp;'


def page_of(a, b, tokenizers=(), names=("A", "B"), **settings):
    chosen = CompareSettings(**settings)
    table = pair([frame_of(a)], [frame_of(b)], chosen, names)
    return render(compare_table(table, chosen), table, Answers([a], [b], tokenizers))


def data_of(page):
    return json.loads(Page(page).scripts[0][1])


@pytest.fixture(scope="module")
def example():
    a, b, tokenizer = sides(120)
    return page_of(a, b, [tokenizer], ("runs/demo/base", "runs/demo/sft"))


def test_the_file_needs_no_network(example):
    page = Page(example)
    for tag, attributes in page.elements:
        assert "src" not in attributes, tag
        assert attributes.get("href", "#").startswith("#"), tag
    style = re.search("<style>(.*?)</style>", example, re.DOTALL).group(1)
    assert "@import" not in style
    assert "url(" not in style
    policy = next(attributes["content"] for tag, attributes in page.elements if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy
    nonce = re.search(r"script-src 'nonce-([0-9a-f]+)'", policy).group(1)
    assert [attributes for attributes, _ in page.scripts] == [
        {"type": "application/json", "id": "data"},
        {"nonce": nonce},
    ]
    assert example.count(nonce) == 2


def test_the_first_sentence_is_the_answer(example):
    text = Page(example).text
    assert "runs/demo/base the baseline" in text
    sentence = re.search(r"Over all items B against A is (.*?)\. A runs", text).group(1)
    assert re.match(r"(better|worse|undecided|equivalent) in accuracy \(", sentence)
    assert "in over-refusal (lower is better)" in sentence


def test_cells_and_data_agree(example):
    page, data = Page(example), data_of(example)
    buttons = [attributes for tag, attributes in page.elements if tag == "button" and "data-cell" in attributes]
    assert [int(one["data-cell"]) for one in buttons] == list(range(len(data["cells"])))
    assert buttons[0]["aria-label"].startswith("all, as they stand: +")
    unmeasured = [one for one in buttons if "unmeasured" in one["class"]]
    assert unmeasured
    for one in unmeasured:
        assert "not measured" in one["aria-label"]
        assert "style" not in one
        assert dict(data["cells"][int(one["data-cell"])]["facts"])["improvement"].startswith("not measured: ")
    for cell in data["cells"]:
        assert len(cell["shown"]) == min(200, sum(count for _, count in cell["counts"]))
        assert all(0 <= number < len(data["samples"]) for number in cell["shown"])
    first = data["samples"][data["cells"][0]["shown"][0]]
    assert first["change"] == "lost"
    assert sum(first["asked"]["lengths"]) == len(first["asked"]["text"])


def test_the_data_block_of_a_small_comparison_is_exact():
    a = [outcome(0, 1.0, prompt="q", prompt_ids=(5,), output="x")]
    b = [outcome(0, 1.0, weights="new", prompt="q", prompt_ids=(5,), output="z")]
    given = {"status": "ok", "verdict": "right", "score": 1.0, "confidence": None, "tokens": None}
    data = data_of(page_of(a, b, names=("old", "new")))
    assert data["names"] == ["old", "new"]
    assert data["samples"] == [
        {
            "task": "t", "item": "item 0", "form": "none", "change": "changed", "both": "right", "unreadable": False,
            "expected": "x", "a": [{"text": "x", **given}], "b": [{"text": "z", **given}], "answers": [1, 1],
            "means": [1.0, 1.0], "asked": {"text": "q", "ids": [5], "tokens": 1},
        }
    ]  # fmt: skip
    (cell,) = data["cells"]
    assert (cell["title"], cell["counts"], cell["shown"]) == ("accuracy · all · as they stand", [["changed", 1]], [0])
    assert dict(cell["facts"])["verdict"] == "underpowered"
    assert cell["notes"] == ["one cluster: nothing can be said of its error"]


def test_hostile_text_stays_text():
    more = {"prompt": HOSTILE, "expected": HOSTILE, "output": HOSTILE, "task": HOSTILE}
    scores = [float(i % 2) for i in range(12)]
    a = side(scores, "old", **more, slices=lambda i: {HOSTILE: HOSTILE + str(i % 2)})
    b = [replace(one, weights="new", score=1.0) for one in a]
    written = page_of(a, b, names=(HOSTILE, HOSTILE))
    page = Page(written)
    assert "img" not in {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert len(page.scripts) == 2
    assert "</script" not in page.scripts[0][1]
    assert "<!--" not in page.scripts[0][1]
    assert data_of(written)["samples"][0]["b"][0]["text"] == HOSTILE
    assert HOSTILE.split("\u2028")[0] in page.text
    assert written.count("<img") == 0


def test_warnings_and_paradoxes_stand_above_the_map():
    cells_a, cells_b = [("s", 0, 270, 234), ("l", 0, 80, 55)], [("s", 0, 87, 81), ("l", 0, 263, 192)]
    a, b = (
        [
            outcome(f"{kind}{i}", float(i < right), weights=weights, slices={"size": kind})
            for kind, first, count, right in cells
            for i in range(first, first + count)
        ]
        for weights, cells in (("old", cells_a), ("new", cells_b))
    )
    text = Page(page_of(a, b)).text
    assert text.index("Simpson's paradox in accuracy: B is better") < text.index("Where Each cell")
    assert text.index("left out: ") < text.index("Where Each cell")
    same = Page(page_of(side([1.0, 0.0] * 5, "w"), side([1.0, 0.0] * 5, "w"))).text
    assert "this is an A/A comparison" in same


def test_no_items_as_they_stand_and_no_pairs():
    only = [outcome(i, 1.0, perturbation="typos") for i in range(8)]
    written = page_of(only, [replace(one, weights="new") for one in only])
    assert "not compared: no item as it stands was asked" in Page(written).text
    cells = data_of(written)["cells"]
    assert [(cell["title"].rpartition(" · ")[2], len(cell["shown"])) for cell in cells] == [
        ("as they stand", 0),
        ("typos", 8),
    ]
    failed = [outcome(i, None, status="error") for i in range(8)]
    written = page_of(failed, [replace(one, weights="new") for one in failed])
    assert "not measured in accuracy (8 without a score on a side)" in Page(written).text
    assert data_of(written)["cells"][0]["counts"] == [["not compared", 8]]


def test_2000_items_of_two_models_stay_below_5_megabytes():
    def long(kind, size):
        return lambda i: " ".join(f"{kind}{(i * 37 + k * k) % 4001}<b>" for k in range(size))

    def answers(weights, shift):
        return side(
            [float((i + shift) % 3 == 0) for i in range(2000)], weights,
            prompt=long("p", 120), output=long(weights, 150), prompt_ids=lambda i: tuple(range(i, i + 400)),
            slices=lambda i: {"topic": f"topic {i % 40}", "size": f"size {i % 7}"},
        )  # fmt: skip

    written = page_of(answers("old", 0), answers("new", 1))
    assert len(written.encode()) < 5_000_000
    data = data_of(written)
    assert data["samples"]
    assert all(cell["shown"] for cell in data["cells"])


def test_the_same_comparison_gives_the_same_page(example):
    a, b, tokenizer = sides(120)
    assert page_of(a, b, [tokenizer], ("runs/demo/base", "runs/demo/sft")) == example


def test_a_page_imports_no_torch():
    code = "import sys; import trimpot.site.comparison_page; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def app():
    app = typer.Typer()
    app.command()(commands.compare)
    app.command()(commands.looks)
    return app


@pytest.fixture
def files(tmp_path):
    for name, weights in (("base", "old"), ("sft", "new"), ("sft2", "newer")):
        (tmp_path / name).mkdir()
        scores = [float(i % 3 == 0 or (weights != "old" and i < 60)) for i in range(90)]
        write_outcomes(tmp_path / name / "outcomes.parquet", side(scores, weights))
    return tmp_path


def test_the_command_writes_the_page_and_names_it(app, files):
    path = files / "new" / "page.html"
    result = CliRunner().invoke(app, ["compare", str(files / "base"), str(files / "sft"), "--page", str(path)])
    assert result.exit_code == 0, result.output
    assert result.stdout.rstrip().endswith(f"page: {path}")
    data = data_of(path.read_text(encoding="utf-8"))
    assert data["cells"][0]["counts"] == [["gained", 40], ["same", 50]]


def test_json_names_the_page_and_seeds_are_read_of_every_file(app, files):
    path, seeds = files / "page.html", f"{files / 'sft'},{files / 'sft2'}"
    arguments = ["compare", str(files / "base"), seeds, "--page", str(path), "--json"]
    assert json.loads(CliRunner().invoke(app, arguments).stdout)["page"] == str(path)
    assert data_of(path.read_text(encoding="utf-8"))["samples"][0]["answers"] == [1, 2]
    assert json.loads(CliRunner().invoke(app, [*arguments[:3], "--json"]).stdout)["page"] is None


def test_a_place_that_cannot_be_written_is_one_line(files):
    a, b = side([1.0] * 9, "old"), side([0.0] * 9, "new")
    table = pair([frame_of(a)], [frame_of(b)], CompareSettings())
    found, answers = compare_table(table, CompareSettings()), Answers([a], [b])
    with pytest.raises(UsageError, match="is a folder"):
        write_page(files, found, table, answers)
    (files / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_page(files / "file" / "page.html", found, table, answers)
