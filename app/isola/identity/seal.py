"""Seals of tokens that this installation issues: one that was invented is refused without a database query."""

import hmac

MAX_LENGTH = 255
_LENGTH = 16


class Seal:
    """Marks tokens of one kind, and ends them in a MAC that only servers of the installation can compute."""

    def __init__(self, mark: str, secret: bytes, purpose: bytes) -> None:
        """``purpose`` makes the key differ from those of other kinds; ``secret`` is that of the installation."""
        self._mark = mark
        self._key = hmac.digest(secret, purpose, "sha256")

    def close(self, token: str) -> str:
        """The token in the form in which clients get it."""
        return self._mark + token + self._mac(token)

    def open(self, text: str) -> str | None:
        """The token in what a client sent; None if no server of this installation sealed it."""
        token, mac = text[len(self._mark) : -_LENGTH], text[-_LENGTH:]
        if not text.startswith(self._mark) or len(text) > MAX_LENGTH or not text.isascii():
            return None
        return token if hmac.compare_digest(self._mac(token), mac) else None

    def _mac(self, token: str) -> str:
        return hmac.digest(self._key, token.encode(), "sha256").hex()[:_LENGTH]
