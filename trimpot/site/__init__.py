"""The report of a run: numbers computed from its folder, then one self-contained HTML file. No torch."""
