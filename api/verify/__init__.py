"""Recompute what is stored from what it rests on. Reads only; names the first row that does not hold."""
