"""The command line: parses and prints, nothing else; heavy imports happen inside the commands."""
