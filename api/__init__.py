"""The county's side: registry, accounts, booking, charging, rewards and exports, over HTTP and a command line.

One folder a domain with the same file names: endpoints (HTTP only) -> service (decides, never commits) ->
repository (SQL); pure rules in a file of their own.
"""
