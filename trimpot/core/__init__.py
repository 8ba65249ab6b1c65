"""The types every package speaks: rows, samples, batches, statistics, settings, errors, seeds, hashes."""
