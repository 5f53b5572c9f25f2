"""A year of a simulated county, made from a seed through the same services and ledger as a real one, then verified."""
