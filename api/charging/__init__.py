"""Prices, charges with their evidence, statements, invoices, payments and the closing of months.

Pure (used by the service, by `openlab verify` and by tests alike): tariff_body, rating, documents, evidence's codecs.
"""
