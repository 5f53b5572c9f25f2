"""The one-process-group demo: the broker, the server and the agents on one machine, started by one command.

The only package of `api` that may import `gateway` and `edge_agents`, because it composes them.
"""
