"""RabbitMQ in a folder of its own, with the Erlang port mapper that it needs."""

from __future__ import annotations

from pathlib import Path

from .base import LOOPBACK, Service, answers, free_port

PROGRAMS = ("rabbitmq-server", "epmd")
# First bytes of AMQP 0-9-1: a broker that has started replies with a frame.
GREETING = b"AMQP\x00\x00\x09\x01"
CONFIGURATION = """\
listeners.tcp.default = {loopback}:{port}
loopback_users.guest = true
# AiiDA acknowledges a process when it has ended, which may take weeks.
consumer_timeout = 3600000000
log.console = true
log.file = false
disk_free_limit.absolute = 50MB
"""


def services(folder: Path) -> tuple[list[Service], dict[str, object]]:
    """The port mapper and the broker, in the order of their start; the broker's address."""
    folder.mkdir(parents=True)
    port, mapper, distribution = free_port(), free_port(), free_port()
    (folder / "rabbitmq.conf").write_text(CONFIGURATION.format(loopback=LOOPBACK, port=port))
    (folder / "enabled_plugins").write_text("[].\n")
    # As the script that Debian puts before it would refuse any user but root and its own.
    (folder / "environment.conf").write_text("")
    environment = {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "RABBITMQ_NODENAME": "aiida@localhost",
        "RABBITMQ_CONF_ENV_FILE": str(folder / "environment.conf"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_DIST_PORT": str(distribution),
        # Idle schedulers sleep instead of spinning.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
        ),
    }
    port_mapper = Service(
        "epmd",
        folder,
        ["epmd", "-port", str(mapper), "-address", LOOPBACK],
        healthy=lambda: answers(mapper),
        environment=environment,
    )
    broker = Service(
        "rabbitmq",
        folder,
        ["/usr/lib/rabbitmq/bin/rabbitmq-server"],
        healthy=lambda: answers(port, GREETING),
        environment=environment,
    )
    return [port_mapper, broker], {
        "protocol": "amqp",
        "username": "guest",
        "password": "guest",
        "host": LOOPBACK,
        "port": port,
        "virtual_host": "",
    }
