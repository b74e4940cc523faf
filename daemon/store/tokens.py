"""Edge: digests of bearer tokens; a token itself is never kept."""

import re
from collections.abc import Sequence

from sqlalchemy import select
from sqlmodel import col

from daemon.store.base import StoreError
from daemon.store.codec import dumps, loads
from daemon.store.database import Database
from daemon.store.tables import TokenRow

DIGEST = re.compile("[0-9a-f]{64}")


class Tokens:
    """Tokens by their SHA-256 digest."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, digest: str, scopes: Sequence[str]) -> None:
        """Keep a digest with its scopes; the same digest again takes the new name and scopes.

        Raises ``StoreError`` for anything that is not a SHA-256 digest in hexadecimal, so that no token slips in.
        """
        if not DIGEST.fullmatch(digest):
            raise StoreError("only the SHA-256 digest of a token is kept - give its 64 hexadecimal digits")
        value = {"name": name, "scopes": dumps(tuple[str, ...], tuple(scopes))}
        statement = self._database.insert(TokenRow).values(digest=digest, **value)
        with self._database.write() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["digest"], set_=value))

    def scopes(self, digest: str) -> tuple[str, Sequence[str]] | None:
        """Find name and scopes of a digest."""
        statement = select(col(TokenRow.name), col(TokenRow.scopes)).where(col(TokenRow.digest) == digest)
        with self._database.read() as connection:
            row = connection.execute(statement).one_or_none()
        return (row.name, loads(tuple[str, ...], row.scopes)) if row else None

    def any(self) -> bool:
        """Whether there is a token at all."""
        with self._database.read() as connection:
            return connection.execute(select(col(TokenRow.digest)).limit(1)).first() is not None
