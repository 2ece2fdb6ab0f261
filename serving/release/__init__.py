"""The folders and the configuration that servers poll: versions, and labels for them."""
