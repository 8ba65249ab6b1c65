import json
import subprocess
import sys
from datetime import datetime

from trimpot.store.environment import environment


def test_what_it_says():
    said = environment()
    assert json.loads(json.dumps(said)) == said
    assert datetime.fromisoformat(said["time"]).tzinfo is not None
    assert said["cpu_count"] >= 1
    assert said["memory_bytes"] > 1 << 28
    assert set(said["versions"]) == {"trimpot", "torch", "transformers", "tokenizers", "peft"}
    assert said["versions"]["torch"][0].isdigit()


def test_reading_it_imports_no_torch():
    code = (
        "import sys; from trimpot.store.environment import environment; environment()\n"
        "import trimpot.store.run_folder, trimpot.store.ledger, trimpot.store.outcomes\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
