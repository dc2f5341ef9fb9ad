"""A witness of each daemon worker: when the worker dies, AiiDA's built-in broker is made to see it.

The broker looks for the dead among its workers whenever a connection ends, but at times before the connection itself is
gone (one in twelve of the kills that were tried): then the tasks of the killed worker are not handed out again, and all
that it ran stands still until some other connection ends. The witness outlives its worker by a few seconds and ends
connections of its own. It is run as a program by its path and imports nothing, so that it costs a few MiB.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

# Seconds between the worker's end and each connection: the broker drops a dead one within milliseconds if it is idle.
PAUSES = (0.5, 2.0, 8.0)


def testify(sockets_file: Path) -> None:
    """End a connection to the broker, several times.

    :param sockets_file: names the folder of the broker's socket; a broker that ended itself, or was started again, has
        all tasks on its disk and needs no witness.
    """
    for pause in PAUSES:
        time.sleep(pause)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(f"{sockets_file.read_text().strip()}/router.sock")
        except OSError:
            return


if __name__ == "__main__":
    # Ends with the worker, which holds the other end.
    sys.stdin.buffer.read()
    testify(Path(sys.argv[1]))
