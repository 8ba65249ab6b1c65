import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from trimpot.site.report import render, write_report
from trimpot.site.summary import summarise
from trimpot.store.run_folder import RunFolder

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements as a browser sees them: tags, attributes, ids, text by tag; checks that tags are closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.elements, self.texts, self.scripts = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append([dict(attributes), ""])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1][1] += data
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def written(constructed_run):
    path = write_report(constructed_run)
    assert path == constructed_run.path / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(written):
    return Page(written)


def test_the_file_needs_no_network(written, page):
    for forbidden in ('src="http', 'href="http', "src='http", "href='http", "cdn"):
        assert forbidden not in written.lower(), forbidden
    style = re.search("<style>(.*?)</style>", written, re.DOTALL).group(1)
    assert "@import" not in style
    assert "url(" not in style
    for tag, attributes in page.elements:
        assert "src" not in attributes, tag
        assert attributes.get("href", "#").startswith("#"), tag
    policy = next(attributes["content"] for tag, attributes in page.elements if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy


def test_hostile_text_of_a_model_stays_text(written, page):
    names = {name for _, attributes in page.elements for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert "img" not in {tag for tag, _ in page.elements}
    assert html.escape("<script>alert(1)</script>") in written
    assert "<script>alert(1)" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert len(page.scripts) == 3
    assert written.count("alert(1)") == page.text.count("alert(1)")


def test_only_our_scripts_carry_the_nonce(written, page):
    policy = next(attributes["content"] for tag, attributes in page.elements if "http-equiv" in attributes)
    nonce = re.search(r"script-src 'nonce-([0-9a-f]+)'", policy).group(1)
    data, *code = page.scripts
    assert data[0] == {"type": "application/json", "id": "specs"}
    assert [attributes for attributes, _ in code] == [{"nonce": nonce}] * 2
    assert written.count(nonce) == 3


def test_every_chart_has_its_place(page):
    specs = json.loads(page.scripts[0][1])
    places = [attributes["id"] for _, attributes in page.elements if attributes.get("class") == "chart"]
    assert sorted(places) == sorted(specs)
    assert {"chart-accuracy", "chart-slices", "chart-sft-0"} <= set(places)
    assert page.scripts[1][1].count("window.vegaEmbed=") == 1


def test_ids_and_anchors_agree(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = {attributes["href"][1:] for tag, attributes in page.elements if tag == "a"}
    labels = {attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes}
    assert anchors | labels <= set(ids)


def test_numbers_stand_in_the_text(page, constructed_run):
    summary = summarise(constructed_run)
    sft = summary.stages[1].evaluation
    for words in (
        f"{100 * sft.accuracy.value:.1f}%",
        f"[{100 * sft.accuracy.low:.1f}, {100 * sft.accuracy.high:.1f}]",
        f"[{100 * sft.difference.low:+.1f}, {100 * sft.difference.high:+.1f}]",
        f"{sft.gained} / {sft.lost}",
        "smollm2-135m",
        "2 min 21 s",
        "entropy_collapse",
        "Entropy fell to 0.21 nats, below 0.3 <nats>.",
        "Raise the temperature.",
        "rewards/margins",
        "greatest common divisor",
        "# constructed for tests, no real run",
    ):
        assert words in page.text, words


def test_right_and_wrong_are_said_in_words(page):
    assert {"✓ right", "✗ wrong", "– parse failed"} <= {text.strip() for text in page.texts}


def test_the_same_run_gives_the_same_page(written, constructed_run):
    assert render(summarise(constructed_run)) == written


def test_making_a_report_imports_no_torch():
    code = "import sys; import trimpot.site.report; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_that_has_just_begun(tmp_path):
    run = RunFolder.create(tmp_path / "<b>run")
    empty = Page(write_report(run).read_text())
    assert "No stage has been recorded yet." in empty.text
    assert "<b>run" in empty.text
    assert empty.scripts == []
    run.stage("sft").write_record({"kind": "sft", "index": 0, "status": "failed"})
    assert "failed" in Page(write_report(run).read_text()).text
