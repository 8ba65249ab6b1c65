import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Benchmarks and tools are no installed packages; under importlib's mode pytest does not put their root in the path.
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A tiny model as a folder, which both sides load."""
    from trimpot.models.tiny import tiny

    folder = tmp_path_factory.mktemp("models") / "tiny"
    policy = tiny("0.1m")
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def allocator_untouched(monkeypatch):
    """Keeps this process's allocator as it is: the setting lasts as long as the process."""
    from trimpot.models import allocator

    monkeypatch.setattr(allocator, "keep_freed_memory", lambda: True)
