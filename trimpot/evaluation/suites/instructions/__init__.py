"""Requests with constraints that a program can check: length, keywords, format, case, position, punctuation, script."""
