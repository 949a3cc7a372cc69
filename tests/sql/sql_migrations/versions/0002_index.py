"""What cannot be done in a transaction, and waits for every other one: it must not wait for us in turn."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    with op.get_context().autocommit_block():
        op.execute("create index concurrently words_text on words (lower(text))")
