"""Studies: a question, arms that differ in one knob, a decision rule fixed beforehand; the runner; one file each."""
