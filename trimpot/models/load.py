"""models.load: one name for every way a model is given."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from trimpot.core.errors import UsageError
from trimpot.models import embedded, virtual_tokens
from trimpot.models.policy import Policy
from trimpot.models.tiny import tiny

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(name: str, device: str = "auto", dtype: str = "auto", seed: int = 0) -> Policy:
    """Loads a model as a Policy.

    Args:
        name: a transformers folder (with the virtual tokens that lie in it), a stage of a run, a hub id, a GGUF file,
            ``smollm2-135m`` (embedded), or ``tiny-0.1m`` … ``tiny-5m``.
        device: auto (CUDA where there is one), cpu, cuda, cuda:1 …
        dtype: auto (the stored one on CUDA; float32 on CPU, the fastest there), float32, bfloat16 or float16.
        seed: initial weights of a tiny model.

    Raises:
        UsageError: no such model, a folder without weights or tokenizer, an unknown dtype or device.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    if dtype != "auto" and dtype not in DTYPES:
        raise UsageError("dtype", f"{dtype!r} is unknown", f"Use auto or one of {', '.join(DTYPES)}.")
    if name.startswith("tiny-"):
        policy = tiny(name.removeprefix("tiny-"), seed=seed)
        policy.model.to(device)
        return policy
    folder = folder_of(name)
    wanted: Any = DTYPES.get(dtype, "auto" if device.startswith("cuda") else torch.float32)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=wanted)
    except (OSError, ValueError, KeyError) as error:
        raise _not_loaded(name, error) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    learned = Path(folder) / virtual_tokens.FOLDER
    if learned.is_dir():
        virtual_tokens.read(model, learned)
    return Policy(model.to(device), tokenizer, name)


def check_device(device: str) -> None:
    """Raises UsageError for a device that torch does not know or that is not there."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            "device", f"{device!r} cannot be used ({reason})", "Use auto, cpu, or a CUDA device."
        ) from error


def check_model(name: str) -> None:
    """Refuses a model that ``load`` would not find, before anything else is begun; reads no weights.

    Raises:
        UsageError: as ``load``.
    """
    if not name.startswith("tiny-"):
        folder = folder_of(name)
        try:
            AutoConfig.from_pretrained(folder)
        except (OSError, ValueError, KeyError) as error:
            raise _not_loaded(name, error) from error


def _not_loaded(name: str, error: Exception) -> UsageError:
    reason = str(error).strip().splitlines()[0]
    mend = "Give a folder saved by save_pretrained, a cached hub id, a GGUF file, or smollm2-135m."
    return UsageError(str(name), f"cannot be loaded ({reason})", mend)


def folder_of(name: str) -> str:
    """The transformers folder (or hub id) behind a name; converts GGUF files and the embedded model on first use.

    Raises:
        UsageError: a folder without config, weights or tokenizer; a missing GGUF file.
    """
    if name == embedded.NAME:
        return str(embedded.embedded_folder())
    path = Path(name)
    if path.suffix == ".gguf":
        if not path.exists():
            raise UsageError(name, "no such file", "Give the path of an existing GGUF file.")
        stamp = f"{path.resolve()}:{path.stat().st_mtime_ns}:{path.stat().st_size}"
        folder = embedded.cache_folder() / f"gguf-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}"
        if not (folder / "config.json").exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            embedded.convert_gguf(path, folder)
        return str(folder)
    if path.is_dir():
        if (path / "stage.json").exists() and (path / "model").is_dir():
            path, name = path / "model", str(path / "model")
        if not (path / "config.json").exists():
            raise UsageError(name, "has no config.json", "Give a folder saved by save_pretrained.")
        if not list(path.glob("*.safetensors")):
            mend = "Save the model with save_pretrained (safetensors); pickled weights are not loaded."
            raise UsageError(name, "has no weights (*.safetensors)", mend)
        return name
    if path.exists() or name.startswith((".", "/")) or name.count("/") > 1:
        raise UsageError(name, "is not a model folder", "Give a folder saved by save_pretrained.")
    return name
