// The page itself: what is chosen, what was asked, what is shown.

const find = (id) => document.getElementById(id);
const state = { signatures: {}, names: [], labels: new Map(), asked: 0 };

const path = () => pathOf(find("model").value, find("version").value);
const streaming = () => find("ask").elements.mode.value === "stream";
const signatureName = () => (streaming() ? "stream_step" : find("signature").value);
const takesText = () => Object.values(state.signatures).some(({ inputs }) => "text" in inputs);
const className = (index) => state.names[index] ?? state.labels.get(index) ?? `class ${index}`;

function showError(error) {
  find("error").textContent = error?.message ?? "";
  find("error").hidden = !error;
}

function options(select, values, chosen) {
  select.replaceChildren(...values.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

// === What is served ===

async function showHealth() {
  const health = find("health"), name = find("model").value;
  try {
    const { model_version_status: versions } = await ask(pathOf(name));
    if (name !== find("model").value) return; // another model was chosen meanwhile
    const available = versions.filter(({ state }) => state === "AVAILABLE").map(({ version }) => version);
    const text = available.length ? `serving version ${available.join(" and ")}` : "no version is ready";
    health.className = `health ${available.length ? "good" : "wait"}`;
    if (health.textContent !== text) health.textContent = text; // it is read aloud whenever it is set
    showVersions(versions);
    await offerVersions(available);
  } catch (error) {
    health.className = "health bad";
    health.textContent = error.message;
  }
}

function showVersions(versions) {
  const rows = versions.map(({ version, state, status }) => element(
    "tr", {}, element("td", {}, version), element("td", {}, state), element("td", {}, status.error_message || ""),
  ));
  const head = element("tr", {}, ...["version", "state", ""].map((text) => element("th", {}, text)));
  find("versions").replaceChildren(element("table", {}, head, ...rows));
}

async function offerVersions(available) {
  const offered = [["", "newest"], ...available.map((version) => [version, version])];
  if (String(offered) === find("version").dataset.offered) return;
  find("version").dataset.offered = String(offered);
  options(find("version"), offered, find("version").value);
  await showModel();
}

async function showModel() {
  Object.assign(state, { names: [], labels: new Map(), signatures: {} });
  try {
    state.signatures = await readSignatures(path());
    showError(null);
  } catch (error) {
    showError(error);
  }
  const sent = Object.keys(state.signatures).filter((name) => canSend(state.signatures[name]));
  options(find("signature"), sent.map((name) => [name, name]), find("signature").value || "serving_default");
  find("modes").hidden = !("stream_step" in state.signatures);
  if (find("modes").hidden) find("ask").elements.mode.value = "whole";
  showSignatures();
  showMode();
}

function showSignatures() {
  const shape = (sizes) => (sizes ? `[${sizes.map((size) => (size < 0 ? "?" : size)).join(", ")}]` : "");
  const tensors = (kind, described) => Object.entries(described).map(([name, { type, shape: sizes }], index) => element(
    "tr", {}, element("td", {}, index ? "" : kind), element("td", { class: "tensor" }, name),
    element("td", { class: "tensor" }, `${type} ${shape(sizes)}`),
  ));
  find("signatures").replaceChildren(...Object.entries(state.signatures).flatMap(([name, { inputs, outputs }]) => [
    element("h3", {}, name),
    element("table", { class: "signature" }, ...tensors("takes", inputs), ...tensors("gives", outputs)),
  ]));
}

function showMode() {
  find("signature-choice").hidden = streaming();
  find("chunk-choice").hidden = !streaming();
  const channels = channelsOf(state.signatures[signatureName()]);
  find("content-label").textContent = takesText() ? "Text" : "Sequence";
  find("content-hint").textContent = takesText()
    ? "Plain text, as it is."
    : `JSON [[...], ...] or CSV, a row a step${channels ? `, ${channels} value${channels > 1 ? "s" : ""} a row` : ""}.`;
}

// === Asking ===

function fillRandom() {
  const channels = channelsOf(state.signatures[signatureName()]) ?? 1;
  find("content").value = takesText() ? randomText() : showSequence(randomSequence(40, channels));
  showError(null);
}

async function send() {
  const name = signatureName(), signature = state.signatures[name], asked = ++state.asked;
  showError(null);
  try {
    if (!signature) throw new Error("This model has no signature that takes a sequence or a text.");
    const content = takesText() ? find("content").value : readSequence(find("content").value, channelsOf(signature));
    if (!content.length) throw new Error("There is nothing to send yet: write a text, or take a random example.");
    drawInput(content);
    if (streaming()) await sendStream(name, signature, content, () => asked === state.asked);
    else await sendWhole(name, signature, content);
  } catch (error) {
    showError(error);
  }
}

async function sendWhole(name, signature, content) {
  const started = performance.now();
  const outputs = await predict(path(), name, signature, feedsOf(signature, content));
  find("timing").textContent = `${name}, answered in ${(performance.now() - started).toFixed(1)} ms`;
  await learnNames(outputs, content);
  showAnswer(outputs, content.length - 1);
}

/** Chunk by chunk: the client carries the states, which are zeros at the beginning. */
async function sendStream(name, signature, content, goesOn) {
  const carried = statesOf(signature), size = Math.max(1, Math.round(Number(find("chunk").value)) || 1);
  const zero = (key) => zeros(signature.inputs[key].shape, signature.inputs[key].type);
  const words = typeof content === "string" ? content.match(/\s*\S+\s*/g) : null; // no token is cut in two
  const steps = words ?? content, points = [], started = performance.now();
  let states = Object.fromEntries(carried.map((key) => [key, zero(key)])), count = 0;
  find("send").textContent = "Stop";
  try {
    for (let first = 0; first < steps.length && goesOn(); first += size) {
      const chunk = steps.slice(first, first + size), end = first + chunk.length;
      const outputs = await predict(path(), name, signature, { ...feedsOf(signature, words ? chunk.join("") : chunk), ...states });
      states = Object.fromEntries(carried.map((key) => [key, outputs[key]]));
      for (const key of carried) delete outputs[key];
      if (!first) await learnNames(outputs, words ? chunk.join("") : chunk);
      const { eachStep, value } = answerOf(outputs);
      if (eachStep) value.forEach((row) => points.push([count++, row]));
      else if (value && !Array.isArray(value[0])) points.push([end - 1, value]);
      const each = ((performance.now() - started) / Math.ceil(end / size)).toFixed(1);
      find("timing").textContent = `${end} of ${steps.length} ${words ? "words" : "steps"} in chunks of ${size}, ${each} ms each`;
      showAnswer(outputs, end - 1, points, eachStep && words ? count - 1 : steps.length - 1);
    }
  } finally {
    find("send").textContent = "Send";
  }
}

/** value: [classes] or [outputs], of eachStep [steps][classes], of a forecast [horizon][outputs]. */
function answerOf(outputs) {
  const probable = "probabilities" in outputs, value = (outputs.probabilities ?? outputs.predictions)?.[0];
  return { value, probable, eachStep: probable && Array.isArray(value?.[0]), forecast: !probable && Array.isArray(value?.[0]) };
}

async function learnNames(outputs, content) {
  const [id] = outputs.class_id ?? [], [label] = outputs.label ?? [];
  [id].flat().forEach((index, place) => index >= 0 && state.labels.set(index, [label].flat()[place]));
  const { value, probable, eachStep } = answerOf(outputs);
  if (probable && !eachStep && !state.names.length) {
    const names = await classNames(path(), state.signatures, content);
    if (names.length === value.length) state.names = names;
  }
}

// === Showing ===

function drawInput(content) {
  if (typeof content === "string") {
    find("input").replaceChildren(element("p", { class: "tensor" }, content.slice(0, 2000)));
    return;
  }
  const lines = columns(content.map((row, step) => [step, row]), (index) => `channel ${index}`);
  const more = content[0].length > lines.length ? `; ${lines.length} of ${content[0].length} channels are drawn` : "";
  const place = element("div");
  find("input").replaceChildren(place, element("p", { class: "hint" }, `${content.length} steps${more}`));
  plot(place, lines, `The input: ${content[0].length} channels over ${content.length} steps`, { first: 0, last: content.length - 1 });
}

/** end: the last step that was sent; points: what a stream has given so far, of total + 1 steps. */
function showAnswer(outputs, end, points = [], total = end) {
  const { value, probable, eachStep, forecast } = answerOf(outputs);
  const names = probable ? className : (index) => `output ${index}`;
  const rows = forecast ? value.map((row, step) => [end + 1 + step, row])
    : points.length || !eachStep ? points : value.map((row, step) => [step, row]);
  const now = eachStep ? value.at(-1) : value, place = element("div"), shown = rows.length ? [place] : [];
  if (probable && now) shown.push(...best(now), ...bars(now, names));
  else if (now && !forecast) shown.push(numbers(now, names));
  find("answer").replaceChildren(...shown);
  if (rows.length) {
    const last = Math.max(forecast ? 0 : total, rows.at(-1)[0]), scale = probable ? { low: 0, high: 1 } : {};
    const range = { first: forecast ? end + 1 : 0, last, ...scale };
    const label = `${probable ? "Probabilities" : "Predictions"} over time, a line each`;
    plot(place, columns(rows, names), label, range, points.length ? rows.at(-1)[0] : undefined);
  }
  find("raw").hidden = false;
  find("raw").querySelector("pre").textContent = JSON.stringify(outputs, null, 1);
}

function best(values) {
  const index = values.indexOf(Math.max(...values.map((value) => value ?? -1)));
  if (values.some((value) => value === null)) {
    return [element("p", { class: "error" }, "No answer for this sequence: a value is not finite, or its length does not fit.")];
  }
  return [element("p", { class: "best" }, className(index), " ", element("small", {}, `${(100 * values[index]).toFixed(1)} %`))];
}

function numbers(values, names) {
  const rows = values.map((value, index) => element(
    "tr", {}, element("th", { scope: "row" }, names(index)), element("td", { class: "number" }, short(value)),
  ));
  return element("table", {}, ...rows);
}

// === Wiring ===

function start() {
  const names = JSON.parse(find("names").textContent);
  options(find("model"), names.map((name) => [name, name]));
  if (!names.length) {
    find("health").textContent = "no model is loaded; load this page again once there is one";
    return;
  }
  find("model").addEventListener("change", () => {
    delete find("version").dataset.offered;
    find("version").value = "";
    showHealth();
  });
  find("version").addEventListener("change", showModel);
  find("ask").addEventListener("change", (event) => event.target.name === "mode" && showMode());
  find("random").addEventListener("click", fillRandom);
  find("file").addEventListener("change", async () => {
    const [file] = find("file").files;
    if (file) find("content").value = await file.text();
    find("file").value = ""; // so that the same file can be opened again
  });
  find("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if (find("send").textContent === "Stop") state.asked++;
    else send();
  });
  find("content").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("ask").requestSubmit();
  });
  setInterval(() => document.hidden || showHealth(), 5000);
  showHealth();
}

start();
