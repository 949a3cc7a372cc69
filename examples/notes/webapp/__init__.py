"""The notes application of the articles, for today: CherryPy and SQLAlchemy on PostgreSQL."""
