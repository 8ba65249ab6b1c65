"""Other projects' models, tasks and logs: OpenAI-compatible endpoints, lm-eval both ways, inspect_ai's logs."""
