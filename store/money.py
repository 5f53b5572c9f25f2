"""Money: integer fen (1/100 yuan), one rounding function. Nothing else in OpenLab rounds an amount."""


def round_half_up(numerator: int, denominator: int) -> int:
    """Return numerator / denominator rounded to the nearest integer, ties away from zero.

    Symmetric, so the reversal of a line is exactly its negative. Raises ValueError for a denominator below 1.
    """
    if denominator < 1:
        raise ValueError(f"denominator is {denominator}; it must be at least 1")
    quotient, rest = divmod(abs(numerator), denominator)
    if 2 * rest >= denominator:
        quotient += 1
    return quotient if numerator >= 0 else -quotient


def net_of_vat(gross_fen: int, rate_bp: int) -> int:
    """Return the net part of a price that includes VAT: gross / (1 + rate), rounded half up.

    The VAT is `gross_fen - net`, so the two always add up to the gross price.
    """
    return round_half_up(gross_fen * 10_000, 10_000 + rate_bp)


def yuan(fen: int) -> str:
    """Return an amount as people write it: 90000 -> `900.00`. Exact, for pages and files."""
    sign = "-" if fen < 0 else ""
    return f"{sign}{abs(fen) // 100}.{abs(fen) % 100:02d}"
