(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const AT_ONCE = 20;
  const MOST_CELLS = 4000000;
  const place = document.getElementById("slice");
  const hint = document.getElementById("hint");
  const tip = document.getElementById("tip");
  const cells = Array.from(document.querySelectorAll("button[data-cell]"));
  hint.hidden = false;

  // Text of models only ever becomes a text node: nothing here reads HTML.
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    Object.entries(attributes || {}).forEach(function ([name, value]) {
      if (name === "onclick" || name === "oninput" || name === "ontoggle") {
        element.addEventListener(name.slice(2), value);
      } else if (value === true) {
        element.setAttribute(name, "");
      } else if (value !== false && value !== null) {
        element.setAttribute(name, value);
      }
    });
    element.append(...children.filter(function (child) { return child !== null; }));
    return element;
  }

  function facts(cell, parent) {
    cell.facts.forEach(function ([name, value]) {
      const pair = [make("dt", {}, name), make("dd", {}, value)];
      parent.append(...(parent.classList.contains("row-facts") ? [make("div", {}, ...pair)] : pair));
    });
    return parent;
  }

  // --- the words in which two answers differ

  function words(text) { return text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || []; }

  // Flags of the words that the other text has not at that place: those outside a longest common subsequence.
  function differing(a, b) {
    const inA = new Uint8Array(a.length), inB = new Uint8Array(b.length);
    let start = 0, endA = a.length, endB = b.length;
    while (start < endA && start < endB && a[start] === b[start]) { start += 1; }
    while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) { endA -= 1; endB -= 1; }
    const n = endA - start, m = endB - start;
    if (n * m > MOST_CELLS) { return null; }
    const width = m + 1, longest = new Uint16Array((n + 1) * width);
    for (let i = n - 1; i >= 0; i -= 1) {
      for (let j = m - 1; j >= 0; j -= 1) {
        longest[i * width + j] = a[start + i] === b[start + j] ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
      }
    }
    let i = 0, j = 0;
    while (i < n || j < m) {
      if (i < n && j < m && a[start + i] === b[start + j]) { i += 1; j += 1; }
      else if (j >= m || (i < n && longest[(i + 1) * width + j] >= longest[i * width + j + 1])) { inA[start + i] = 1; i += 1; }
      else { inB[start + j] = 1; j += 1; }
    }
    return [inA, inB];
  }

  function marked(parts, flags, tag) {
    const pre = make("pre", {dir: "auto"});
    if (!parts.length) { pre.append("(empty)"); }
    for (let from = 0; from < parts.length;) {
      let to = from;
      while (to < parts.length && flags[to] === flags[from]) { to += 1; }
      const text = parts.slice(from, to).join("");
      pre.append(flags[from] ? make(tag, {}, text) : text);
      from = to;
    }
    return pre;
  }

  // --- one sample

  const SIGNS = {right: "✓ right", wrong: "✗ wrong"};

  function about(answer) {
    const said = [];
    if (answer.verdict) { said.push(SIGNS[answer.verdict] || "– " + answer.verdict); }
    if (answer.status === "ok" || answer.score !== null) { said.push("score " + (answer.score === null ? "is no number" : answer.score)); }
    said.push("status " + answer.status);
    if (answer.confidence !== null) { said.push("confidence " + answer.confidence.toFixed(3)); }
    said.push(answer.tokens === null ? "tokens not counted" : answer.tokens + (answer.tokens === 1 ? " token" : " tokens"));
    return said.join(" · ");
  }

  function side(sample, letter, pre) {
    const number = letter === "A" ? 0 : 1, answers = number ? sample.b : sample.a;
    if (!answers.length) { return make("div", {class: "answer grade"}, make("p", {}, make("strong", {}, letter), " was not asked this")); }
    const kind = answers[0].verdict === "right" ? " right" : answers[0].verdict === "" ? " grade" : "";
    const all = sample.answers[number];
    const head = make("p", {}, make("strong", {}, letter), " " + about(answers[0]));
    const box = make("div", {class: "answer" + kind}, head, pre);
    if (all > 1) {
      const mean = sample.means[number] === null ? "" : ", mean score " + sample.means[number];
      const kept = answers.length < all ? ", " + answers.length + " of them here" : "";
      const more = make("details", {}, make("summary", {}, all + " answers (seeds and samples)" + mean + kept));
      answers.slice(1).forEach(function (answer) {
        more.append(make("div", {class: "more-answers"}, make("p", {}, about(answer)), make("pre", {dir: "auto"}, answer.text || "(empty)")));
      });
      box.append(more);
    }
    return box;
  }

  function shown(piece) { return piece.replace(/ /g, "·").replace(/\n/g, "↵").replace(/\t/g, "⇥"); }

  function tokens(asked, whose) {
    const kept = asked.ids.length < asked.tokens ? "; the first " + asked.ids.length + " are here" : "";
    const count = asked.tokens + (asked.tokens === 1 ? " token" : " tokens");
    if (!asked.tokens) { return make("p", {class: "small soft"}, "Prompt" + whose + ": its token ids were not kept"); }
    const box = make("details", {class: "prompt-tokens", ontoggle: function () {
      if (!box.open || box.dataset.drawn) { return; }
      box.dataset.drawn = "yes";
      if (!asked.lengths) {
        box.append(make("p", {class: "small soft"}, "No tokenizer at hand gives these ids, so that they stand without their text."));
        box.append(make("p", {class: "ids"}, asked.ids.join(" ")));
        return;
      }
      const characters = Array.from(asked.text), list = make("div", {class: "tokens"});
      let at = 0;
      asked.lengths.forEach(function (length, number) {
        const piece = characters.slice(at, at + length).join("");
        at += length;
        list.append(make("span", {}, shown(piece) || "∅", make("small", {}, String(asked.ids[number]))));
        if (piece.endsWith("\n")) { list.append(make("br", {})); }
      });
      box.append(list, make("p", {class: "small soft"}, "· a space, ↵ a line's end, ∅ an id without text of its own; below each its id."));
    }}, make("summary", {}, "Prompt" + whose + ": " + count + kept));
    return box;
  }

  function article(sample) {
    const form = sample.form === "none" ? "" : " · " + sample.form;
    const wordsA = words(sample.a.length ? sample.a[0].text : ""), wordsB = words(sample.b.length ? sample.b[0].text : "");
    const both = sample.a.length && sample.b.length;
    const found = both ? differing(wordsA, wordsB) : [[], []];
    const [inA, inB] = found || [[], []];
    const box = make("article", {class: "sample"},
      make("h3", {}, make("span", {class: "badge " + sample.change.replace(" ", "-")}, sample.change), sample.task + " · " + sample.item + form),
      make("pre", {dir: "auto", class: "prompt"}, sample.asked.text),
      sample.asked_b ? make("p", {class: "small warn"}, "B was asked with another " + (sample.asked_b.text === sample.asked.text ? "tokenization of it" : "prompt") + ":") : null,
      sample.asked_b && sample.asked_b.text !== sample.asked.text ? make("pre", {dir: "auto", class: "prompt"}, sample.asked_b.text) : null,
      tokens(sample.asked, sample.asked_b ? " of A" : ""),
      sample.asked_b ? tokens(sample.asked_b, " of B") : null,
      make("p", {class: "small soft"}, "Expected: ", make("bdi", {}, sample.expected || "(nothing)")),
      make("div", {class: "answers"}, side(sample, "A", marked(wordsA, inA, "del")), side(sample, "B", marked(wordsB, inB, "ins"))),
      found ? null : make("p", {class: "small soft"}, "These answers are too long to mark in what they differ."));
    return box;
  }

  // --- a slice

  const FILTERS = [
    ["all", function () { return true; }],
    ["lost", function (sample) { return sample.change === "lost"; }],
    ["gained", function (sample) { return sample.change === "gained"; }],
    ["both right", function (sample) { return sample.both === "right"; }],
    ["both wrong", function (sample) { return sample.both === "wrong"; }],
    ["unreadable", function (sample) { return sample.unreadable; }],
    ["not compared", function (sample) { return sample.change === "not compared"; }]
  ];

  function searched(sample) {
    const texts = sample.a.concat(sample.b).map(function (answer) { return answer.text; });
    return [sample.task, sample.item, sample.asked.text, sample.expected].concat(texts).join("\n").toLowerCase();
  }

  function held(cell, samples) {
    const all = cell.counts.reduce(function (sum, pair) { return sum + pair[1]; }, 0);
    if (!all) { return "This slice has no items."; }
    const parts = cell.counts.map(function ([change, count]) {
      const here = samples.filter(function (sample) { return sample.change === change; }).length;
      return change + " " + (here === count ? count : here + " of " + count);
    });
    return (samples.length === all ? "All " + all : samples.length + " of the " + all) + " items of this slice are in this page: " + parts.join(", ") + ".";
  }

  function open(number) {
    const cell = data.cells[number];
    const samples = cell.shown.map(function (index) { return data.samples[index]; });
    const texts = samples.map(searched);
    const list = make("div", {id: "list"}), status = make("p", {class: "small soft", role: "status"});
    const more = make("button", {type: "button", class: "plain", onclick: function () { show(AT_ONCE); }});
    let filter = FILTERS[0], wanted = "", chosen = [], drawn = 0;
    const search = make("input", {type: "search", "aria-label": "Search prompts and answers", placeholder: "Search prompts and answers", oninput: function () { wanted = search.value.toLowerCase(); choose(); }});
    const buttons = FILTERS.map(function (one) {
      const count = samples.filter(one[1]).length;
      const button = make("button", {type: "button", class: "plain", disabled: !count, "aria-pressed": "false", onclick: function () { filter = one; choose(); }}, one[0] + " " + count);
      return one[0] === "not compared" && !count ? null : button;
    });

    function show(count) {
      chosen.slice(drawn, drawn + count).forEach(function (index) { list.append(article(samples[index])); });
      drawn = Math.min(drawn + count, chosen.length);
      more.hidden = drawn >= chosen.length;
      more.textContent = "Show " + Math.min(AT_ONCE, chosen.length - drawn) + " more";
      status.textContent = !samples.length ? "" : !chosen.length ? "None of these items fits." : drawn + " of " + chosen.length + " shown.";
    }

    function choose() {
      buttons.forEach(function (button, index) { if (button) { button.setAttribute("aria-pressed", String(FILTERS[index] === filter)); } });
      chosen = samples.map(function (_, index) { return index; }).filter(function (index) { return filter[1](samples[index]) && texts[index].includes(wanted); });
      list.replaceChildren();
      drawn = 0;
      show(AT_ONCE);
    }

    const heading = make("h3", {tabindex: "-1", id: "slice-title"}, cell.title);
    place.replaceChildren(
      heading,
      facts(cell, make("dl", {class: "row-facts"})),
      ...cell.notes.map(function (note) { return make("p", {class: "small warn"}, note + "."); }),
      make("p", {class: "small soft", id: "held"}, held(cell, samples)),
      make("div", {class: "controls"}, make("div", {class: "filters", role: "group", "aria-label": "Which items"}, ...buttons.filter(Boolean)), search,
        make("button", {type: "button", class: "plain", onclick: function () { const at = cells[number]; at.focus(); at.scrollIntoView({block: "center"}); }}, "Back to the map")),
      status, list, more);
    place.hidden = false;
    hint.hidden = true;
    cells.forEach(function (button) { button.setAttribute("aria-current", String(Number(button.dataset.cell) === number)); });
    choose();
    hide();
    heading.focus({preventScroll: true});
    heading.scrollIntoView();
  }

  // --- what a cell says when it is pointed at

  function point(button) {
    const cell = data.cells[Number(button.dataset.cell)];
    tip.replaceChildren(make("strong", {}, cell.title), facts(cell, make("dl", {})), ...cell.notes.map(function (note) { return make("div", {class: "warn"}, note); }));
    tip.hidden = false;
    const box = button.getBoundingClientRect(), size = tip.getBoundingClientRect();
    const edge = button.closest(".scroll").getBoundingClientRect().right;
    // Beside the map where there is room, so that it hides no other cell.
    const beside = edge + 8 + size.width <= window.innerWidth, below = box.bottom + 8 + size.height <= window.innerHeight;
    const left = beside ? edge + 8 : Math.min(box.left, window.innerWidth - size.width - 8);
    const top = beside ? Math.min(box.top, window.innerHeight - size.height - 8) : below ? box.bottom + 8 : box.top - size.height - 8;
    tip.style.left = Math.max(8, left) + "px";
    tip.style.top = Math.max(8, top) + "px";
  }
  function hide() { tip.hidden = true; }

  // Cells beside, above and below by the arrow keys.
  function move(button, key) {
    const table = button.closest("table"), rows = Array.from(table.querySelectorAll("tr")).filter(function (row) { return row.querySelector("button"); });
    const row = rows.indexOf(button.closest("tr")), column = Array.from(rows[row].querySelectorAll("button")).indexOf(button);
    const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[key];
    const next = step && rows[row + step[0]] && rows[row + step[0]].querySelectorAll("button")[column + step[1]];
    if (next) { next.focus(); }
    return Boolean(step);
  }

  cells.forEach(function (button) {
    button.addEventListener("click", function () {
      const wanted = "#cell-" + button.dataset.cell;
      if (location.hash === wanted) { read(); } else { location.hash = wanted; }
    });
    button.addEventListener("mouseenter", function () { point(button); });
    button.addEventListener("focus", function () { if (button.matches(":focus-visible")) { point(button); } });
    button.addEventListener("mouseleave", hide);
    button.addEventListener("blur", hide);
    button.addEventListener("keydown", function (event) { if (move(button, event.key)) { event.preventDefault(); } });
  });
  document.addEventListener("keydown", function (event) { if (event.key === "Escape") { hide(); } });
  window.addEventListener("scroll", hide, {passive: true});

  function read() {
    const found = /^#cell-(\d+)$/.exec(location.hash);
    if (found && data.cells[Number(found[1])]) { open(Number(found[1])); }
  }
  window.addEventListener("hashchange", read);
  read();
})();
