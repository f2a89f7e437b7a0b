"""The authkey: where it comes from, and what makes one acceptable."""

from __future__ import annotations

import os
import secrets
from multiprocessing import process

from .errors import ConfigurationError

ENVIRONMENT = "AIOMANAGER_AUTHKEY"

# One captured handshake lets an attacker try some 100,000 keys a second on one core; a host's key
# must be out of reach of that.
SHORTEST = 16


def generate() -> str:
    """A new random key, of 256 bits, as text that fits into an environment variable."""
    return secrets.token_urlsafe(32)


def resolve(authkey: bytes | str | None) -> bytes:
    """The key given, else that of the environment, else that of the current process.

    Raises:
        ConfigurationError: the key is empty, or neither bytes nor str.
    """
    source = "authkey"
    if authkey is None and ENVIRONMENT in os.environ:
        authkey, source = os.environ[ENVIRONMENT], f"${ENVIRONMENT}"
    if authkey is None:
        authkey = bytes(process.current_process().authkey)
    if isinstance(authkey, str):
        authkey = authkey.encode()
    if not isinstance(authkey, bytes):
        raise ConfigurationError(f"authkey is {type(authkey).__name__}; give bytes or str")
    if not authkey:
        raise ConfigurationError(f"{source} is empty; make a key with: aiomanager keygen")
    return bytes(authkey)


def require_strong(authkey: bytes) -> None:
    """Refuse a key that a host should not be protected by."""
    if len(authkey) < SHORTEST:
        raise ConfigurationError(
            f"the authkey has {len(authkey)} bytes, and a host's should have {SHORTEST} or more: "
            "whoever guesses it runs code in this host. Make one with: aiomanager keygen; or, "
            "where nobody else reaches the address, say allow_short_key=True"
        )
