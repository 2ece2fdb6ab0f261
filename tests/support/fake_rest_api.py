"""A REST API as TensorFlow Serving's, over models of a few lines of NumPy: for clients that only see HTTP."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from serving.rest.page import page

CLASSES = ["nine", "ten", "<b>eleven</b>"]
CHANNELS, STATES, HORIZON = 4, 3, 8
MIX = np.random.default_rng(3).normal(size=(CHANNELS, STATES))


def tensor(dtype, *shape):
    return {
        "dtype": dtype,
        "name": "x:0",
        "tensor_shape": {"dim": [{"size": str(n)} for n in shape], "unknown_rank": False},
    }


FEATURES = tensor("DT_FLOAT", -1, -1, CHANNELS)
ANSWERS = {
    "probabilities": tensor("DT_FLOAT", -1, len(CLASSES)),
    "class_id": tensor("DT_INT64", -1),
    "label": tensor("DT_STRING", -1),
}
STATE = {"lstm_1_cell": tensor("DT_FLOAT", -1, STATES)}
MODELS = {
    "numbers": {
        "serving_default": ({"features": FEATURES}, ANSWERS),
        "serving_padded": ({"features": FEATURES, "lengths": tensor("DT_INT32", -1)}, ANSWERS),
        "stream_step": ({"features": FEATURES} | STATE, ANSWERS | STATE),
        "classify": (
            {"inputs": tensor("DT_STRING", -1)},
            {"classes": tensor("DT_STRING", -1, 3), "scores": tensor("DT_FLOAT", -1, 3)},
        ),
    },
    "forecast": {
        "serving_default": ({"features": FEATURES}, {"predictions": tensor("DT_FLOAT", -1, HORIZON, 2)}),
    },
    "text": {
        "serving_default": ({"text": tensor("DT_STRING", -1)}, ANSWERS),
    },
}


def classify(features, cell):
    for step in features:
        cell = 0.8 * cell + np.tanh(step @ MIX)
    probabilities = np.exp(cell) / np.exp(cell).sum()
    best = int(np.argmax(probabilities))
    return {"probabilities": [probabilities.tolist()], "class_id": [best], "label": [CLASSES[best]]}, cell


def predict(name, body):
    inputs = body["inputs"]
    if name == "forecast":
        wave = np.sin(np.arange(HORIZON)[:, None] / 2 + [0, 1])
        return [wave.tolist()]  # a lone output has no name
    if name == "text":
        return classify([[ord(letter) / 99 - 1] * CHANNELS for letter in inputs["text"][0]], np.zeros(STATES))[0]
    features = np.array(inputs["features"][0], float)
    if features[0, 0] == 99:
        return {"probabilities": [[float("nan")] * 3], "class_id": [-1], "label": [""]}
    answers, cell = classify(features, np.array(inputs.get("lstm_1_cell", [np.zeros(STATES)])[0]))
    return answers | ({"lstm_1_cell": [cell.tolist()]} if "lstm_1_cell" in inputs else {})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/":
            return self.answer(200, page(sorted(MODELS)), "text/html; charset=utf-8")
        name, _, rest = self.path.removeprefix("/v1/models/").partition("/")
        version, _, metadata = rest.removeprefix("versions/").partition("/") if "versions/" in rest else ("", "", rest)
        if name not in MODELS:
            return self.fail(404, f"Could not find any versions of model {name}")
        if not metadata:
            states = [("3", "END", "UNKNOWN", "it is broken"), ("2", "AVAILABLE", "OK", ""), ("1", "END", "OK", "")]
            states = [
                {"version": number, "state": state, "status": {"error_code": code, "error_message": message}}
                for number, state, code, message in states
                if version in ("", number)
            ]
            return self.say({"model_version_status": states})
        signatures = {key: {"inputs": given, "outputs": made} for key, (given, made) in MODELS[name].items()}
        return self.say({"metadata": {"signature_def": {"signature_def": signatures}}})

    def do_POST(self):
        name, _, verb = self.path.removeprefix("/v1/models/").replace("/versions/2", "").partition(":")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((verb, body))
        if verb == "classify":
            assert all(isinstance(value, float) for value in body["examples"][0]["features"])
            return self.say({"results": [[[label, 0.1] for label in CLASSES]]})
        if body["inputs"].get("features") == [[[-1] * CHANNELS]]:
            return self.fail(400, "the model says <no>")
        return self.say({"outputs": predict(name, body)})

    def say(self, content):
        self.answer(200, json.dumps(content).encode(), "application/json")

    def fail(self, status, message):
        self.answer(status, json.dumps({"error": message}).encode(), "application/json")

    def answer(self, status, body, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(port=0):
    """Gives the address, and the list that every POST is appended to as (verb, body)."""
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        server.received = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", server.received
        server.shutdown()
