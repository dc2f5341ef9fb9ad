"""What all WorkChains share: protocols, options, ports, pools, resumption, recovery."""
