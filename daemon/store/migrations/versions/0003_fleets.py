"""Edge: what the jobs of fleets cost an hour, so that a fleet's cap holds where an intent is committed."""

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the tables; they fill at the first turn."""
    op.create_table("fleets", sa.Column("name", sa.Text(), nullable=False), sa.PrimaryKeyConstraint("name"))
    op.create_table(
        "rates",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("fleet", sa.Text(), nullable=False),
        sa.Column("usd_per_hour", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.name"], name="fk_rates_job", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job"),
    )
    op.create_index("ix_rates_fleet", "rates", ["fleet"])


def downgrade() -> None:
    """Refuse: an older version cannot hold what this one may have written."""
    raise NotImplementedError("a database is not taken back - restore the backup made before the upgrade")
