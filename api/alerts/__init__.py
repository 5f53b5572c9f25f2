"""Alerts: what the system found that a person should look at, and the word of whoever is done with it."""
