"""A job that ends on a full disk says so in its last words, whatever its program made of it.

Some programs end as if all were well, others cannot write down why they failed. So a job holds a few bytes from its
beginning and gives them back at its end: then there is room for one line, and a probe tells whether it is needed.
"""

from __future__ import annotations

import functools

from aiida import orm
from aiida.common.datastructures import CalcInfo

NO_SPACE = "no space left for files"
RESERVED, RESERVE, PROBE = 65536, ".reserve", ".probe"


def reserving() -> str:
    """Shell line at the beginning of a job script that keeps some bytes of the disk."""
    return f"head -c {RESERVED} /dev/zero > {RESERVE}"


def room() -> str:
    """Shell lines at the end of a job script that say so if the disk is full.

    They write to the standard output of the job script, which every scheduler keeps and AiiDA always retrieves; nothing
    is asked of the cluster afterwards, and nothing is written if all is well.
    """
    probe = f"head -c {4 * RESERVED} /dev/zero > {PROBE}"
    return f'rm -f {RESERVE}\n{{ {probe}; }} 2>/dev/null || full=1\nrm -f {PROBE}\n[ -z "$full" ] || echo "{NO_SPACE}"'


def watch_space(info: CalcInfo) -> CalcInfo:
    """The same job, which tells of a full disk."""
    info.prepend_text, info.append_text = reserving(), room()
    return info


@functools.lru_cache(maxsize=8)
def last_words(node: orm.CalcJobNode) -> tuple[str, ...]:
    """Lines on the standard output of the script of a job that has ended; read once for all who ask."""
    return tuple((node.get_scheduler_stdout() or "").splitlines())


def found_no_space(node: orm.CalcJobNode) -> bool:
    """Whether a job ended on a full disk, by its own last words."""
    return NO_SPACE in last_words(node)
