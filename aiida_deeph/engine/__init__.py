"""The science: runs on any compute node and never imports aiida."""
