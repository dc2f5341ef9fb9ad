"""`aiida-deeph dos`."""

from aiida_deeph.cli.curves import dos as command

__all__ = ["command"]
