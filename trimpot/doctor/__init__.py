"""Reads the log of a training run, trimpot's or another's; says what is wrong with it and what was not looked at."""
