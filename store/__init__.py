"""What is kept: tables, ledger, money, time series and migrations. Knows no HTTP and no MQTT.

Decisions live above (gateway, api); here live the SQL, the types and the invariants that hold whoever writes.
"""
