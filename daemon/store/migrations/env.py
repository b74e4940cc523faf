"""Edge: what Alembic runs. The connection is handed over by ``daemon.store.schema``; there is no other way in."""

from alembic import context

from daemon.store.tables import Row

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Row.metadata,
    render_as_batch=True,
    compare_type=True,
    transactional_ddl=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
