"""What a year of a county costs: `python -m benchmarks.year [--orders 300] [--firms 40] [--seed 1]`.

The time of each step of `openlab simulate-year` (SQLite, every commit on disk), an order; verification against making,
which it is promised to be no slower than; and how many charges of that year one core prices again in a second.
"""

import argparse
import tempfile
import time
from pathlib import Path

from sqlalchemy import select

from api.charging.documents import read_input
from api.charging.rating import RatingInput, rate
from api.charging.tariffs import pinned_tariff
from api.simulation.commands import open_fresh
from api.simulation.year import YearReport, simulate_year
from store.database import Database
from store.tables.charging import Charge, ChargePurpose

RATED_AT_LEAST = 200_000


def main() -> None:
    """Play the year and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=300)
    parser.add_argument("--firms", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_fresh(Path(folder)) as (database, series):
        report = simulate_year(database, series, seed=given.seed, orders=given.orders, firms=given.firms)
        print_table(report, rated_a_second(database))


def print_table(report: YearReport, rated: float) -> None:
    """Print seconds a step, milliseconds an order, and the two promises."""
    print(f"{report.orders} orders, {report.firms} firms, {report.counts['charge']} charges")
    for name, seconds in report.seconds.items():
        print(f"{name:>18} {seconds:9.2f} s {seconds * 1000 / report.orders:9.2f} ms/order")
    ratio = report.seconds["verify"] / report.made_s
    print(f"{'verify / make':>18} {ratio:9.2f}")
    print(f"{'rating':>18} {rated:9.0f} charges/s on one core")
    print(f"findings: {len(report.findings)}; digest {report.digest}")


def rated_a_second(database: Database) -> float:
    """Price the year's charges again, over and over, inputs read beforehand; by processor time."""
    inputs: list[tuple[RatingInput, str]] = []
    with database.read() as session:
        for charge in session.scalars(select(Charge).where(Charge.purpose == ChargePurpose.USE.value)):
            body = pinned_tariff(session, charge.tariff_id, charge.tariff_version).body
            inputs.append((read_input(charge.input, body), charge.calc_version))
    rounds = -(-RATED_AT_LEAST // len(inputs))
    began = time.process_time()
    for _ in range(rounds):
        for given, calc_version in inputs:
            rate(given, calc_version)
    return rounds * len(inputs) / (time.process_time() - began)


if __name__ == "__main__":
    main()
