"""The code behind answers: what is reached from a model's class, and that a change of it shows."""

from __future__ import annotations

import importlib.util
import sys

from tests.evaluation.scripted import ScriptedModel
from trimpot.evaluation.code_version import ROOT, code_version, reached


def test_a_local_model_depends_on_engine_likelihood_and_policy_but_not_on_the_store():
    names = {file.relative_to(ROOT).as_posix() for file in reached([ROOT / "trimpot/evaluation/local.py"])}
    assert {
        "trimpot/evaluation/local.py", "trimpot/evaluation/likelihood.py", "trimpot/rollout/engine.py",
        "trimpot/rollout/sampling.py", "trimpot/models/prefix.py", "trimpot/models/policy.py", "trimpot/data/turns.py",
    } <= names  # fmt: skip
    assert not any(name.startswith(("trimpot/store", "trimpot/studies", "trimpot/evaluation/runner")) for name in names)


def test_a_change_of_the_class_changes_the_version(tmp_path):
    def version(body: str) -> str:
        file = tmp_path / "mine.py"
        file.write_text(f"class Mine:\n    {body}\n")
        spec = importlib.util.spec_from_file_location("mine", file)
        module = importlib.util.module_from_spec(spec)
        sys.modules["mine"] = module
        spec.loader.exec_module(module)
        return code_version(module.Mine)

    assert version("pass") == version("pass")
    assert version("pass") != version("answer = 1")


def test_a_class_without_a_file_has_a_version():
    made = type("Made", (), {"__module__": "nowhere"})
    assert code_version(made) != code_version(ScriptedModel)
