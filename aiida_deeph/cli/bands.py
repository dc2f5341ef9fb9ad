"""`aiida-deeph bands`."""

from aiida_deeph.cli.curves import bands as command

__all__ = ["command"]
