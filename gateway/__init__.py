"""The bridge from the wire to the store: decode -> write -> commit -> PUBACK -> acknowledge. Any number of processes.

It stores records in any order and folds them into sessions; it never matches bookings and never prices.
"""
