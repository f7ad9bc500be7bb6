"""The sample of requests goes by the ids of answers, as outcomes do. Nothing was written into it before."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.drop_table("requests")
    op.create_table(
        "requests",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("stream", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("unit", sa.LargeBinary(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("requests_by_at", "requests", ["at"], unique=False)
    op.create_index("requests_by_unit", "requests", ["unit"], unique=False)
