"""HumanEval: programs that a model writes, run in processes that can do nothing but compute."""
