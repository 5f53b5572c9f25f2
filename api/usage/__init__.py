"""What was metered, to look at: sessions and power curves. Reads only; the gateway and the worker write."""
