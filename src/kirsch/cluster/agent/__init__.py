"""The agent: makes one machine's runtime do what the schedule says."""

from kirsch.cluster.agent.agent import Agent

__all__ = ["Agent"]
