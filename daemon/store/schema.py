"""Edge: the database's schema: made, upgraded, and refused where this version does not know it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from daemon.store.base import StoreError

LOCK = 7308332183025546337
"""The advisory lock under which replicas that start together upgrade one after the other ("scale..." in bytes)."""


def config(connection: Connection) -> Config:
    """Make Alembic's configuration around an open connection."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def upgrade(connection: Connection, name: str) -> None:
    """Bring the schema to this version's, inside the connection's transaction.

    Raises ``StoreError`` for a database of a newer version, or of something else; ``name`` is for the message.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    settings = config(connection)
    found = MigrationContext.configure(connection).get_current_heads()
    scripts = ScriptDirectory.from_config(settings)
    known = {script.revision for script in scripts.walk_revisions()}
    if unknown := set(found) - known:
        raise StoreError(
            f"{name} is at schema {', '.join(sorted(unknown))}, newer than this version's"
            f" {scripts.get_current_head()} - install the version that wrote it, or restore an older backup"
        )
    if not found and inspect(connection).has_table("jobs"):
        raise StoreError(f"{name} holds a table named jobs that is not ours - give another database")
    if set(found) != set(scripts.get_heads()):
        command.upgrade(settings, "head")


def must_be_current(connection: Connection, name: str) -> None:
    """Raise ``StoreError`` unless the schema is this version's. Changes nothing."""
    found = set(MigrationContext.configure(connection).get_current_heads())
    if found != set(ScriptDirectory.from_config(config(connection)).get_heads()):
        version = ", ".join(sorted(found)) or "none"
        raise StoreError(
            f"{name} is at schema {version}, not this version's - bring it there with 'scaleahead db upgrade'"
        )
