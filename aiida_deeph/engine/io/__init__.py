"""Files: DeepH folders and dataset manifests."""
