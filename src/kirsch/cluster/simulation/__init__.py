"""Whole clusters in one process and in virtual time: the real engine and agents, and all that can happen."""

from kirsch.cluster.simulation.scenario import Scenario, random_scenario
from kirsch.cluster.simulation.simulation import Outcome, simulate

__all__ = ["Outcome", "Scenario", "random_scenario", "simulate"]
