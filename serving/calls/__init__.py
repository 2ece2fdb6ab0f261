"""From messages to arrays and back: what predict, classify, regress and multi-inference do with one model."""
