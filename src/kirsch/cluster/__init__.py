"""fleet for today: registry, engine, agent, runtimes, API, daemon."""
