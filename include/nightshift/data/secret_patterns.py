"""Keys, tokens and passwords in a text, by the forms that their issuers document."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Where the first text occurs the pattern is searched; most texts hold none of them, which costs little to know. What is
# replaced is the pattern's group where it has one: a name before a value tells readers what was there.
# Every repetition is bounded: hostile texts cannot make a search slow.
_ISSUERS = {
    **dict.fromkeys(("AKIA", "ASIA"), r"A[KS]IA[A-Z0-9]{16}"),  # AWS, access key
    "ecret": r"(?i:secret_?(?:access_?)?key)[\"']?\s{0,3}[:=]\s{0,3}[\"']?([A-Za-z0-9+/]{40})(?![A-Za-z0-9+/=])",  # AWS
    "ECRET": r"SECRET_(?:ACCESS_)?KEY[\"']?\s{0,3}[:=]\s{0,3}[\"']?([A-Za-z0-9+/]{40})(?![A-Za-z0-9+/=])",
    "AIza": r"AIza[\w-]{35}",  # Google, API key
    "ya29.": r"ya29\.[\w-]{20,1000}",  # Google, OAuth token
    "GOCSPX-": r"GOCSPX-[\w-]{28}",  # Google, client secret
    "AccountKey=": r"AccountKey=([A-Za-z0-9+/]{40,100}={0,2})",  # Azure, storage account
    "AccessKey=": r"SharedAccessKey=([A-Za-z0-9+/]{40,100}={0,2})",  # Azure, service bus
    "sig=": r"(?<=[?&;])sig=([A-Za-z0-9%+/]{40,100}={0,2})",  # Azure, shared access signature
    "Q~": r"(?<![\w~.])[\w~.-]{3}\dQ~[\w~.-]{31,34}",  # Azure, client secret
    **dict.fromkeys(("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_[A-Za-z0-9]{36,255}"),  # GitHub
    "github_pat_": r"github_pat_\w{40,255}",
    "glpat-": r"glpat-[\w-]{20,255}",  # GitLab
    "xox": r"xox[abeoprs]-[A-Za-z0-9-]{10,255}",  # Slack
    "xapp-": r"xapp-\d-[A-Za-z0-9-]{10,255}",
    "hooks.slack.com": r"hooks\.slack\.com/services/(T\w{5,20}/B\w{5,20}/\w{15,40})",
    "sk-": r"sk-(?=[\w-]{0,60}\d)(?:(?=[\w-]{0,60}[A-Z])[\w-]{20,255}|(?:or-v1-)?[a-z0-9]{32,64})",  # OpenAI, Anthropic, others
    **dict.fromkeys(("k_live_", "k_test_"), r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,255}"),  # Stripe
    "whsec_": r"whsec_[A-Za-z0-9+/]{24,100}={0,2}",
    "hf_": r"hf_[A-Za-z0-9]{30,60}",  # Hugging Face
    **dict.fromkeys(
        ("gsk_", "xai-", "pplx-", "dop_v1_"), r"(?:gsk_|xai-|pplx-|dop_v1_)[A-Za-z0-9]{40,100}"
    ),  # Groq, xAI, …
    "dapi": r"dapi[0-9a-f]{32}",  # Databricks
    "uthorization": r"uthorization[\"']?\s?[:=]\s?[\"']?"
    r"(?:(?i:basic) (?=[A-Za-z0-9+/]{1,60}[A-Z0-9+/=])([A-Za-z0-9+/]{8,1000}={0,2})"
    r"|(?i:bearer|token) (?=[\w.~+/-]{0,60}\d)([\w.~+/-]{16,4000}={0,2}))",
    "npm_": r"npm_[A-Za-z0-9]{36}",
    "pypi-": r"pypi-AgE[\w-]{50,500}",
    "SG.": r"SG\.[\w-]{22}\.[\w-]{43}",  # SendGrid
    "eyJ": r"(?<![\w.])(?<!\w-)eyJ[\w-]{10,4000}\.eyJ[\w-]{10,8000}(?:\.[\w-]{0,2000})?",  # JSON Web Token
    "://": r"://[^\s/?#:@]{0,64}:(?![<{$%*])([^\s/?#@]{1,256}(?:@[^\s/?#@:]{1,64}){0,2})@",  # a password in a URL
    "PRIVATE KEY": r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:[^-]|-(?!----)){0,20000}-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"|(?:\s{0,4}[A-Za-z0-9+/=]{16,100}){1,400})",  # PEM; what was cut has no end
}
WORD = re.compile(r"\w", re.ASCII)
SECRETS = {sign: re.compile(pattern, re.ASCII) for sign, pattern in _ISSUERS.items()}


def secrets(plain: str, _letters: str) -> Iterator[tuple[int, int]]:
    """Yield where keys, tokens and passwords begin and end, in order, for a text as `PlainText` reads it."""
    found = set()
    for sign, pattern in SECRETS.items():
        if sign in plain:
            for match in pattern.finditer(plain):
                start, stop = match.span(match.lastindex or 0)
                if not (_within_a_word(plain, start) or _within_a_word(plain, stop)):
                    found.add((start, stop))
    end = 0
    for start, stop in sorted(found, key=lambda span: (span[0], -span[1])):
        if start >= end:
            yield start, stop
            end = stop


def _within_a_word(plain: str, place: int) -> bool:
    """Whether letters, digits or underscores of ASCII stand on both sides of a place."""
    return WORD.match(plain, place) is not None and place > 0 and WORD.match(plain, place - 1) is not None
