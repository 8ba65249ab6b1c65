"""The table of `make parity-objectives`: how far each objective's value and gradient are from TRL's own."""

from __future__ import annotations

import pytest

ROWS: list[tuple[str, float, float]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity-table", action="store_true", help="print how far objectives are from TRL's")


@pytest.fixture(autouse=True)
def parity_record(request: pytest.FixtureRequest) -> None:
    """Gives the parity modules a ``record_parity(loss difference, gradient difference)`` that knows its test."""
    if hasattr(request.module, "record_parity"):
        name = request.node.name.removeprefix("test_")
        request.module.record_parity = lambda loss, gradient: ROWS.append((name, float(loss), float(gradient)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("--parity-table"):
        return
    width = max((len(name) for name, _, _ in ROWS), default=10)
    terminalreporter.section("against TRL's own loss functions, same tensors, float64")
    terminalreporter.write_line(f"{'objective and settings':<{width}}  |loss difference|  max |gradient difference|")
    for name, loss, gradient in ROWS:
        terminalreporter.write_line(f"{name:<{width}}  {loss:17.1e}  {gradient:25.1e}")
