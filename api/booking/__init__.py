"""Bookings: quote, book, the states a booking goes through, and whose use of an instrument was whose."""
