"""Everything after export: the local server with TensorFlow Serving's API, and its client."""
