"""`python -m benchmarks`: list what is measured; `python -m benchmarks gateway --records 5000` runs one of them."""

import importlib
import pkgutil
import sys

import benchmarks


def names() -> list[str]:
    """The benchmark modules, by name."""
    found = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return sorted(name for name in found if not name.startswith("_"))


def main() -> None:
    """List the benchmarks, or run the one that the first argument names with the rest of the arguments."""
    if len(sys.argv) > 1 and sys.argv[1] in names():
        module = importlib.import_module(f"benchmarks.{sys.argv[1]}")
        sys.argv = [f"python -m benchmarks {sys.argv[1]}", *sys.argv[2:]]
        module.main()
        return
    for name in names():
        first_line = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").strip().splitlines()[0]
        print(f"{name:10} {first_line}")


if __name__ == "__main__":
    main()
