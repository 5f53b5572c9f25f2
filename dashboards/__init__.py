"""Grafana as code: panels, the dashboards made of them, data sources, and how they reach a Grafana.

Stands alone: it knows the measurement and table names of the stores by their text and imports nothing of ours.
`build.py` writes `json/`, which compose mounts into Grafana; `push.py` sends the same to a Grafana elsewhere.
"""
