"""How long a count takes as a whole process, against importing the libraries that it is made with.

    python benchmarks/count.py [--runs 15]

Prints medians of ratios of neighbouring runs: a spec that was counted before against `import lark, jinja2, click`, a
spec that is new (its tree is not in the cache), and 600,002 layers against 20.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

IMPORTS = [sys.executable, "-c", "import lark, jinja2, click"]


def params(spec: str) -> list[str]:
    return [sys.executable, "-m", "archdsl", "params", spec]


def seconds(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


def ratio(a: list[list[str]], b: list[str], environment: dict[str, str]) -> str:
    """Commands against one other, in turn."""
    pairs = [(seconds(command, environment), seconds(b, environment)) for command in a]
    first, second = (statistics.median(p[i] for p in pairs) for i in (0, 1))
    return f"{first * 1e3:6.0f} ms against {second * 1e3:6.0f} ms: x{statistics.median(x / y for x, y in pairs):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        deep, shallow = params("PreResNet(600002)"), params("PreResNet(20)")
        for command in (params("WRN(28,10)"), deep, shallow, IMPORTS):
            seconds(command, environment)
        print("WRN(28,10), seen before, to imports:", ratio([params("WRN(28,10)")] * runs, IMPORTS, environment))
        new = [params(f"WRN(28,{10 + i})") for i in range(runs)]
        print("WRN(28,k), a new spec, to imports:  ", ratio(new, IMPORTS, environment))
        print("PreResNet(600002) to PreResNet(20): ", ratio([deep] * runs, shallow, environment))


if __name__ == "__main__":
    main()
