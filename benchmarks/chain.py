"""Seconds of each step, and the most anonymous memory that a whole run takes.

    python benchmarks/chain.py --source samples --set epochs=24

Anonymous memory (RssAnon) leaves out mapped files, which the kernel may drop at any time. It is summed
over all processes of the run, five times a second.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

from measuring import anonymous_mb


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="samples")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "defectline.cli", "run"]
        command += ["--source", arguments.source, "--store", store]
        command += [text for setting in arguments.settings for text in ("--set", setting)]
        start = time.monotonic()
        process = subprocess.Popen(command, env={**os.environ, "COLUMNS": "120"})
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, anonymous_mb(process.pid))
            time.sleep(0.2)
    print(f"\nin all {time.monotonic() - start:.1f} s, at most {peak / 1e3:.2f} GB of anonymous memory")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
