"""What runs a SavedModel: one interface, a file for each way to TensorFlow, and `load`, which chooses."""
