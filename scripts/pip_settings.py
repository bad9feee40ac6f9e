"""What pip was told on this machine (index, mirror, certificate, proxy), said again in uv's words."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from urllib.parse import unquote, urlparse

# pip's setting -> uv's environment variable, and what separates several values there.
UV_NAMES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "constraint": ("UV_CONSTRAINT", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "no-index": ("UV_NO_INDEX", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "client-cert": ("SSL_CLIENT_CERT", " "),
    "proxy": ("ALL_PROXY", " "),
}
SECTIONS = ("global", "install", ":env:")  # later ones win, as in pip


def pip_settings(listing: str) -> dict[str, list[str]]:
    """Return the settings that `pip install` would use, from the text that `pip config list` prints."""
    found: dict[str, dict[str, list[str]]] = {section: {} for section in SECTIONS}
    for line in listing.splitlines():
        match = re.match(r"(:env:|[\w-]+)\.([\w-]+)=(.*)$", line.strip())
        if match and match[1] in found:
            try:
                value = str(ast.literal_eval(match[3]))
            except (SyntaxError, ValueError):
                value = match[3]
            found[match[1]][match[2]] = value.split()
    merged: dict[str, list[str]] = {}
    for section in SECTIONS:
        merged.update(found[section])
    return merged


def uv_environment(settings: dict[str, list[str]], environment: dict[str, str]) -> dict[str, str]:
    """Return the variables that make uv do what these pip settings ask; a variable that is set already wins.

    Local folders that do not exist are left out: pip passes over them, uv stops.
    """
    variables: dict[str, str] = {}
    for setting, (name, separator) in UV_NAMES.items():
        values = [value for value in settings.get(setting, []) if _exists(value)]
        if values and not environment.get(name):
            variables[name] = separator.join(values)
    if variables.get("UV_NO_INDEX", "").lower() in {"0", "false", "no", "off"}:
        del variables["UV_NO_INDEX"]
    if "UV_INDEX" in variables and not environment.get("UV_INDEX_STRATEGY"):
        # pip takes the best version of all indexes; uv would stop at the first that knows the name. Where a lock is
        # installed another index cannot slip in a file of its own: hashes are compared (torch and CUDA's libraries have none).
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return variables


def _exists(value: str) -> bool:
    address = urlparse(value)
    if address.scheme == "file":
        return Path(unquote(address.path)).exists()
    return not value.startswith("/") or Path(value).exists()
