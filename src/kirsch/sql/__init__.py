"""A database session per request (`pip install kirsch[sql]`)."""
