"use strict";
// What the server is asked, and how its answers are read: TensorFlow Serving's REST API and nothing else.

const TYPES = {
  DT_FLOAT: "float32", DT_DOUBLE: "float64", DT_INT32: "int32", DT_INT64: "int64", DT_STRING: "string", DT_BOOL: "bool",
};
// What a person sends; every other input of stream_step is a state.
const CONTENT = ["features", "text", "lengths"];

/** JSON as TensorFlow Serving writes it, where NaN and infinities stand unquoted. */
function parseAnswer(text) {
  return JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g, (token) => {
    if (token.startsWith('"')) return token;
    return token.endsWith("NaN") ? "null" : token.replace("Infinity", "1e999");
  }));
}

/** Asks, and gives the answer; whatever goes wrong becomes an Error with a message for a person. */
async function ask(path, body) {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body };
  let response, text, answer;
  try {
    response = await fetch(path, body === undefined ? { cache: "no-store" } : post);
    text = await response.text();
  } catch {
    throw new Error("The server does not answer. Does it still run?");
  }
  try {
    answer = parseAnswer(text);
  } catch {
    throw new Error(`The server answered ${response.status} with what is no JSON: ${text.slice(0, 200)}`);
  }
  if (!response.ok) throw new Error(answer.error ?? `The server answered ${response.status}.`);
  return answer;
}

function pathOf(name, version) {
  return `v1/models/${encodeURIComponent(name)}` + (version ? `/versions/${version}` : "");
}

/** {signature: {inputs, outputs}}, each {name: {type, shape}}; a shape is null where even its rank is open. */
async function readSignatures(path) {
  const answer = await ask(`${path}/metadata`);
  const tensors = (described) => Object.fromEntries(Object.entries(described).map(([name, { dtype, tensor_shape: shape }]) => [
    name, { type: TYPES[dtype] ?? dtype, shape: shape?.unknown_rank ? null : (shape?.dim ?? []).map((dim) => Number(dim.size)) },
  ]));
  const entries = Object.entries(answer.metadata.signature_def.signature_def);
  return Object.fromEntries(
    entries
      .filter(([name]) => !name.startsWith("__"))
      .map(([name, { inputs, outputs }]) => [name, { inputs: tensors(inputs), outputs: tensors(outputs) }]),
  );
}

function canSend({ inputs }) {
  const names = Object.keys(inputs);
  return names.every((name) => CONTENT.includes(name)) && ("features" in inputs || "text" in inputs);
}

function statesOf({ inputs }) {
  return Object.keys(inputs).filter((name) => !CONTENT.includes(name));
}

function zeros(shape, type) {
  if (!shape.length) return type === "string" ? "" : 0;
  return Array.from({ length: shape[0] < 0 ? 1 : shape[0] }, () => zeros(shape.slice(1), type));
}

/** The content as a batch of one, for those of a signature's inputs that carry it. */
function feedsOf({ inputs }, content) {
  const all = { features: [content], text: [content], lengths: [content.length] };
  return Object.fromEntries(Object.entries(all).filter(([name]) => name in inputs));
}

async function predict(path, name, signature, inputs) {
  const { outputs } = await ask(`${path}:predict`, JSON.stringify({ signature_name: name, inputs }));
  const expected = Object.keys(signature.outputs);
  return expected.length === 1 ? { [expected[0]]: outputs } : outputs; // TensorFlow Serving leaves a lone name out
}

/** Names of the classes in order, which only classify tells; [] where it does not. */
async function classNames(path, signatures, content) {
  if (!("classify" in signatures)) return [];
  // Whole numbers without a point would be taken for integers.
  const decimal = (number) => (Number.isInteger(number) ? `${number}.0` : String(number));
  const feature = typeof content === "string"
    ? `"text": ${JSON.stringify([content])}` : `"features": [${content.flat().map(decimal).join(",")}]`;
  try {
    const { results } = await ask(`${path}:classify`, `{"signature_name": "classify", "examples": [{${feature}}]}`);
    return results[0].map(([label]) => label);
  } catch {
    return [];
  }
}
