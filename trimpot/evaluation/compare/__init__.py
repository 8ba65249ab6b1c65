"""Two models on the same items: differences by slice, their verdicts, and gates on them."""
