"""Make the table, slowly enough that others come meanwhile; a second run would fail or count twice."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.execute("select pg_sleep(0.5)")
    op.execute("create table words (text text primary key)")
    op.execute("insert into words values ('made by migration')")
