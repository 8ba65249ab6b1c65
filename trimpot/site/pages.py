"""What pages share: the environment of their templates, and data within a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"


def environment() -> jinja2.Environment:
    """Templates of the site. Text is escaped, and a name that is not there is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def json_block(value: Any) -> Markup:
    r"""Compact JSON for a ``<script type="application/json">``: no character in it can end the element.

    Example: {"a": "</script>"} becomes {"a":"\u003c/script\u003e"}.

    Raises:
        ValueError: a number is NaN or infinite, which a browser could not read.
    """
    return htmlsafe_json_dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
