"""PostgreSQL, RabbitMQ and SLURM on this machine, without systemd, for as long as a test takes.

`cd tests && python -m services start FOLDER` starts them by hand, `stop FOLDER` ends them.
"""
