"""Alembic's entry: take the steps on the connection that kt.store.migrate hands over."""

from alembic import context

from kt.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
