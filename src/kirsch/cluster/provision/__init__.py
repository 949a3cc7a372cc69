"""Clusters made on a person's computer, machines as containers, and hosts that join them over ssh."""
