"""HELM's seven metric groups over an outcome table, as a grid that says what it did not measure."""
