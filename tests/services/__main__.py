"""`python -m services start FOLDER` and `stop FOLDER`, in the folder `tests`: a cluster to try the guide on."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from .cluster import DESCRIPTION, Cluster, missing_programs, stop


def main() -> None:
    """Start or stop all services."""
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("folder", type=Path, help="a short path: sockets are made in it")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    if arguments.action == "stop":
        print("stopped:", ", ".join(stop(folder)) or "nothing")
        return
    missing = missing_programs()
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}; see .ci/run for the Debian packages")
    begin = time.monotonic()
    cluster = Cluster.start(folder)
    print(f"started in {time.monotonic() - begin:.0f} s; addresses in {folder / DESCRIPTION}")
    print(f". {folder}/environment.sh   # before the daemon starts")
    print((folder / DESCRIPTION).read_text(), end="")
    print(cluster.slurm.command("sinfo", "-N", "-o", "%N %P %T %c %G"), end="")


if __name__ == "__main__":
    main()
