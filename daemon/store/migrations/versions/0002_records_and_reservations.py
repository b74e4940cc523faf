"""Edge: what a decision was made from, kept beside it for a while, and what an open action has set aside."""

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the columns; rows written before keep their options where they were, and have no record."""
    with op.batch_alter_table("decisions") as table:
        table.add_column(sa.Column("at_us", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("record", sa.LargeBinary(), nullable=True))
        table.create_index("ix_decisions_at_us", ["at_us"])
    with op.batch_alter_table("actions") as table:
        table.add_column(sa.Column("reserved_usd", sa.Double(), nullable=True))


def downgrade() -> None:
    """Refuse: an older version cannot hold what this one may have written."""
    raise NotImplementedError("a database is not taken back - restore the backup made before the upgrade")
