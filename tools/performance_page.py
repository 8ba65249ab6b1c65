"""Writes docs/performance.md and its charts from benchmarks/results.json.

Usage: python tools/performance_page.py
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE, IMAGES = ROOT / "docs" / "performance.md", ROOT / "docs" / "images" / "performance"
REACHED = {None: "not measured", True: "yes", False: "**no**"}
KINDS = {"ratio": "{:.2f}x", "memory": "{:.2f}x", "of_limit": "{:.0%}", "seconds": "{:.2f} s"}

INTRODUCTION = """# Performance

Made by `tools/performance_page.py` from `benchmarks/results.json`; do not edit it.
"""
TABLE = """## Every row

Each row is a peer and trimpot in turn in one run, each in a process of its own: a training job does a step of the peer,
then a step of trimpot, while the other process waits; what takes no turns runs anew in every repeat. The ratio is the
median of the repeats' ratios. *Of limit* is the share of the machine's fp32 matrix-product rate that trimpot's job
reaches, its operations counted by hand: 6 for each weight and token that trains, 2 where it is only scored or sampled,
the output head at the targets only. Peak memory is the process's highest resident memory. A row counts only if both
sides did the same work: equal rows, tokens and loss masks, and losses that agree within 1e-3 in every step.
"""
REASONS = {
    (
        "sft",
        "ratio",
    ): "what is no matrix product, in the profile above; TRL's own rate differs most between steps, as it "
    "pads and trimpot does not",
    ("sft", "of_limit"): "the same; a faster processor makes the products shorter and leaves the rest as it is",
    (
        "dpo",
        "ratio",
    ): "a prompt runs once for both answers and the reference once a row, TRL's as well: on prompts of 200 "
    "and answers of 60 tokens little more can be left out",
    ("grpo", "ratio"): "sampling: 16 rows draw one token each in every pass over the weights, which memory limits, not "
    "the processor",
    ("generation-mixed", "ratio"): "the prompts' own pass, which both sides have to make, and attention over caches of "
    "unequal length, row by row",
    ("generation-groups", "ratio"): "attention over caches of unequal length, row by row",
    ("memory", "memory"): "weights, gradients and both moments in fp32 are four times the model on both sides, a "
    "reference is a fifth; only the rest can differ",
}
"""(job or kind, kind of target) -> what stands in the way of it, as profiles and counts showed."""
SETTINGS = """## What the settings mean

- **trl**: TRL's defaults with what its documentation names for a processor without accelerator (`use_cpu`, `bf16` off:
  fp32 is the faster there). Gradient checkpointing is TRL's default. Rows come in the order trimpot draws them.
- **same allocator**: the same process with trimpot's setting of the C library's allocator. glibc gives large freed
  blocks back to the kernel, and the next tensor of that size is faulted in again, page by page. `trimpot` calls
  `mallopt(M_MMAP_MAX, 0)` and switches trimming off when it starts (`trimpot.models.allocator`), so freed memory stays
  with the process and is used again. It changes no result. The price: memory that a process once needed stays with it.
  `trimpot run --system-allocator` leaves the allocator as it is.
  A program that imports trimpot decides for itself: nothing is set unless it calls `keep_freed_memory()`. Elsewhere
  than under glibc the call does nothing.
- **no checkpointing**: TRL keeps all activations: faster, and more memory.
- **generation of GRPO**: both sides sample exactly 64 tokens. TRL's `generate` suppresses the end token, for trimpot
  the set of end tokens is emptied; prompts, reward, group and temperature are the same.
- **tokens of a pass**: trimpot trains in passes of 640 tokens (`micro_batch_tokens`, its default), so that few
  activations are held at a time; the gradient is that of the whole step. TRL takes a batch in one pass.
- All are fp32, all weights train with AdamW, batches are equal, and the embedded SmolLM2-135M-Instruct is the model.
"""
HOW = """## How to run it

```
make bench                                      all of it; leave the machine alone meanwhile
.venv/bin/python -m benchmarks --only sft --output FILE   some jobs
.venv/bin/python -m benchmarks --resume         go on with a run that was stopped
.venv/bin/python -m benchmarks --quick --output /tmp/quick.json   small sizes, to see that all runs
.venv/bin/python tools/performance_page.py      this page from the results
```
"""


def performance_page(results: Mapping[str, Any]) -> str:
    """The page as markdown."""
    details = {row["job"]: row["details"] for row in results["rows"]}
    parts = [INTRODUCTION, _conditions(results), _targets(results), TABLE, _rows(results), _images(results)]
    if "scaling" in details:
        parts.append(_scaling(details["scaling"]))
    if "operators" in details:
        parts.append(_operators(details["operators"]["operators"]))
    parts.append(_missed(results))
    return "\n".join([*parts, SETTINGS, HOW]).rstrip() + "\n"


def _conditions(results: Mapping[str, Any]) -> str:
    where, settings = results["environment"], results["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items() if version)
    changed = " with uncommitted changes" if where["uncommitted_changes"] else ""
    rates = ", ".join(f"{one['value']:.0f}" for one in results["matmul"])
    lines = [
        f"{where['processor']}, {where['cpu_count']} cores, {where['memory_bytes'] / 1e9:.0f} GB; "
        f"{settings['threads']} threads, fp32; {settings['repeats']} repeats; {where['time']}, "
        f"commit {str(where['commit'])[:12]}{changed}. {versions}; Python {where['python']}.",
        "",
        f"Matrix products (`torch.mm`, best of several shapes), in turn: {rates} GFLOP/s.",
        "",
    ]
    if settings["quick"] or results["load_average"] > 0.5:
        lines += [
            "**These figures are not for citing:** they are of a quick run or of a machine that was busy (load average "
            f"{results['load_average']:.1f}).",
            "",
        ]
    return "\n".join(lines)


def _targets(results: Mapping[str, Any]) -> str:
    rows = []
    for target in results["targets"]:
        form, sign = KINDS[target["kind"]], "at most" if target["kind"] in ("memory", "seconds") else "at least"
        value = "" if target["value"] is None else form.format(target["value"])
        rows.append((target["what"], f"{sign} {form.format(target['limit'])}", value, REACHED[target["reached"]]))
    return "## Targets\n\n" + _table(("Target", "Wanted", "Measured", "Reached"), rows)


def _rows(results: Mapping[str, Any]) -> str:
    limit = max((one["value"] for one in results["matmul"]), default=0.0) * 1e9
    lines = []
    for row in results["rows"]:
        operations = row["operations_per_second"]
        ours = [
            f"{statistics.median(row['ours']):.4g} {row['unit']}",
            f"{row['our_memory_bytes'] / 1e9:.1f}",
            f"{operations / limit:.0%}" if operations and limit else "",
        ]
        if row["peer"] is None:
            lines.append((row["job"], "", "", "", *ours, "", ""))
            continue
        name = row["peer"] if row["same_work"] else f"{row['peer']} (**different work**)"
        theirs = (name, f"{statistics.median(row['theirs']):.4g}", f"{row['their_memory_bytes'] / 1e9:.1f}")
        lines.append((row["job"], *theirs, *ours, f"{row['ratio']:.2f}x", f"{row['memory_ratio']:.2f}x"))
    lines += [(one["job"], "**failed**", *[""] * 7) for one in results["failures"]]
    titles = {row["job"]: row["title"] for row in results["rows"]}
    jobs = "".join(f"- **{job}**: {title}\n" for job, title in titles.items())
    heads = ("Job", "Peer", "Its rate", "GB", "trimpot", "GB", "Of limit", "Ratio", "Memory")
    return _table(heads, lines) + "\n" + jobs


def _images(results: Mapping[str, Any]) -> str:
    if not any(row["peer"] is not None and row["same_work"] for row in results["rows"]):
        return ""
    return _image("ratios", "Rates against the peers") + "\n" + _image("memory", "Peak memory against the peers")


def _scaling(curves: Mapping[str, Any]) -> str:
    best = max(curves["length"], key=lambda point: point["tokens_per_second"])
    most = best["tokens_per_second"]
    ends = ", ".join(
        f"{point['tokens_per_second'] / most:.0%} at {point['length']}"
        for point in (curves["length"][0], curves["length"][-1])
    )
    text = (
        f"By length of the rows, training is fastest at {best['length']} tokens ({most:.0f} tokens/s); of that {ends}. "
        "A larger step shares the optimiser's part among more tokens, a larger group its prompt among more completions."
    )
    return f"## Scaling\n\n{text}\n\n" + _image("scaling", "Rates against row length, batch and group size")


def _operators(operators: Sequence[Mapping[str, Any]]) -> str:
    text = (
        "One SFT step under `torch.profiler`, operators by the time they spend themselves (not in operators that they "
        "call). `aten::mm` and `aten::addmm` are matrix products, which make the limit; the rest stands in the way."
    )
    rows = [
        (f"`{line['operator']}`", f"{line['share']:.1%}", f"{line['seconds']:.3f}", str(line["calls"] or ""))
        for line in operators
    ]
    table = _table(("Operator", "Share", "Seconds", "Calls"), rows)
    return f"## Where the time goes\n\n{text}\n\n{table}\n" + _image("operators", "Self time by operator")


def _missed(results: Mapping[str, Any]) -> str:
    """What stands in the way of every target that was not reached, and the ratio at the machine's full rate."""
    limit = max((one["value"] for one in results["matmul"]), default=0.0) * 1e9
    lines = []
    for target in results["targets"]:
        if target["reached"] is not False:
            continue
        reason = REASONS.get((target["job"], target["kind"])) or REASONS.get((target["kind"], target["kind"]), "")
        rates = [
            row["operations_per_second"] / row["ratio"]
            for row in results["rows"]
            if row["job"] == target["job"] and row["peer"] in target["peers"] and row["operations_per_second"]
        ]
        most = limit / max(rates) if target["kind"] == "ratio" and rates and limit else None
        room = "" if most is None else f" With nothing but matrix products at their full rate it would be {most:.1f}x."
        lines.append(f"- **{target['what']}**: {reason}.{room}")
    if not lines:
        return ""
    return "## What stands in the way\n\n" + "\n".join(lines) + "\n"


def _image(name: str, text: str) -> str:
    return f"![{text}](images/performance/{name}.svg)\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def main() -> None:
    """Writes the charts and the page."""
    # The benchmarks are no installed package: this file may be run from anywhere.
    sys.path.insert(0, str(ROOT))
    from benchmarks.charts import draw
    from benchmarks.results import RESULTS, read_results
    from trimpot.store.atomic import write_text

    results = read_results(RESULTS)
    draw(results, IMAGES)
    write_text(PAGE, performance_page(results))


if __name__ == "__main__":
    main()
