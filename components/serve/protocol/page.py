"""The page on which people inspect single pictures in a browser: one file that loads nothing else."""

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from defectline.components.common.images.colours import COLOURS

TEMPLATE = Path(__file__).with_name("page.html")


class Page(NamedTuple):
    html: str
    headers: dict[str, str]
    """To send with it; among them a policy that allows only the page's own script and style."""


def inspection_page(model: str, keeps_frames: bool = False, beside: Sequence[str] = ()) -> Page:
    """The page for the model of this name; with a button to keep a picture for review where that is done, and
    with links to those `beside` it.

    Its script asks `v1/models/<model>:predict`, relative to the page's own address.
    """
    colours = ", ".join('"rgb({}, {}, {})"'.format(*colour) for colour in COLOURS)
    template = TEMPLATE.read_text(encoding="utf-8").replace("{{colours}}", colours)
    headers = secure_headers(template)
    kept = "yes" if keeps_frames else ""
    links = "".join(f' · <a href="?model={quote(name)}">{html.escape(name)}</a>' for name in beside)
    filled = template.replace("{{model}}", html.escape(model)).replace("{{review}}", kept)
    return Page(filled.replace("{{beside}}", links), headers)


def secure_headers(page: str) -> dict[str, str]:
    """To send with a page that loads nothing else and shows pictures: they allow its one script and its one
    style, and requests to its own server."""
    policy = {
        "default-src": "'none'",
        "script-src": _hash(page, "script"),
        "style-src": _hash(page, "style"),
        "img-src": "blob: data:",
        "connect-src": "'self' blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
    }
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }


def _hash(template: str, tag: str) -> str:
    """The policy's source for the only element of this name: its SHA-256."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
