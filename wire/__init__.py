"""What travels between an instrument and the county: messages, topics, ids, clocks and the MQTT client.

Used by `edge_agents` and `gateway` (and by `api` for message types). Knows no database and no HTTP.
"""
