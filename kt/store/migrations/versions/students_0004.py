"""How well each student masters each skill is kept, by pseudonym."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "mastery",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("skills", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.Column("students", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "student_mastery",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("unit", sa.LargeBinary(), primary_key=True),
        sa.Column("skill", sa.Text(), primary_key=True),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("mastery", sa.Float(), nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("answers", sa.BigInteger(), nullable=False),
        sa.Column("answered_at", sa.BigInteger()),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sqlite_with_rowid=False,
    )
