"""The REST API: HTTP, the JSON of requests and answers, and what TensorFlow Serving does between the two."""
