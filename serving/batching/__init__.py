"""Requests that arrive together run together: how batches are made, and the model that runs them."""
