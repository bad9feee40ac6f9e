"""Signatures of anchors (Ed25519), so that write access to the anchors' place is not enough to forge one."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from nightshift.audit.anchor import Anchor
from nightshift.errors import BadInput

KEY_BYTES = 32
PURPOSE = "nightshift audit anchor 1"  # so that the key signs nothing else by accident


def signing_key(text: str) -> Ed25519PrivateKey:
    """Return the private key that 32 random bytes in base64 are.

    :raises BadInput: `text` is something else; it is not repeated.
    """
    if (secret := _bytes(text)) is None:
        raise BadInput("the key of the audit log is no key: 32 random bytes in base64, as of `openssl rand -base64 32`")
    return Ed25519PrivateKey.from_private_bytes(secret)


def public_key_of(key: Ed25519PrivateKey) -> str:
    """Return what verifies the signatures of a key: 32 bytes in base64."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def read_public_keys(text: str) -> list[str]:
    """Return the public keys that `text` is, or that the file of this name holds, one a line.

    :raises BadInput: it is neither.
    """
    if _bytes(text) is not None:
        return [text]
    try:
        keys = Path(text).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        keys = []
    if not keys or any(_bytes(key) is None for key in keys):
        raise BadInput(f"--public-key {text}: neither a public key nor a file of them; `nightshift audit public-key`")
    return keys


def signed(anchor: Anchor, key: Ed25519PrivateKey) -> Anchor:
    """Return the anchor with its signature."""
    signature = base64.b64encode(key.sign(_statement(anchor))).decode()
    return anchor.model_copy(update={"public_key": public_key_of(key), "signature": signature})


def is_genuine(anchor: Anchor) -> bool:
    """Whether the key that an anchor names signed what it says. One without a signature says nothing false."""
    if not (anchor.signature or anchor.public_key):
        return True
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(anchor.public_key, validate=True))
        key.verify(base64.b64decode(anchor.signature, validate=True), _statement(anchor))
    except (ValueError, InvalidSignature):
        return False
    return True


def _statement(anchor: Anchor) -> bytes:
    what = [anchor.chain, anchor.storage, anchor.count, anchor.head, anchor.previous, anchor.anchored.isoformat()]
    return json.dumps([PURPOSE, *what], separators=(",", ":")).encode()


def _bytes(text: str) -> bytes | None:
    try:
        content = base64.b64decode(text.strip(), validate=True)
    except (ValueError, binascii.Error):
        return None
    return content if len(content) == KEY_BYTES else None
