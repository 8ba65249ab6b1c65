"""Red teaming of one's own models: attacks, three-valued outcomes, corrected rates, minimal failures to replay."""
