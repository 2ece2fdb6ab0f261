// What a person pastes or opens, as a sequence; each function throws an Error that says what to change.

/** How many values a step has: the last axis of `features`. */
function channelsOf(signature) {
  const shape = signature?.inputs.features?.shape;
  return shape?.length === 3 && shape[2] > 0 ? shape[2] : null;
}

function readSequence(text, channels) {
  const trimmed = text.trim();
  if (!trimmed) throw new Error("There is nothing to send yet: paste a sequence, open a file, or take a random example.");
  const rows = /^[[{]/.test(trimmed) ? readJson(trimmed, channels) : readTable(trimmed);
  rows.forEach((row, step) => {
    const wanted = channels ?? rows[0].length;
    if (row.length !== wanted) throw new Error(`Step ${step} has ${row.length} values; the model takes ${wanted} a step.`);
    const wrong = row.find((value) => typeof value !== "number" || !Number.isFinite(value));
    if (wrong !== undefined) throw new Error(`Step ${step} holds ${JSON.stringify(wrong)}, which is no finite number.`);
  });
  return rows;
}

function readJson(text, channels) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`This is no JSON: ${error.message}`);
  }
  while (value && typeof value === "object" && !Array.isArray(value)) {
    value = value.features ?? value.inputs ?? value.instances;
  }
  const depth = (list) => (Array.isArray(list) ? 1 + depth(list[0]) : 0);
  if (depth(value) === 3) {
    if (value.length > 1) throw new Error(`There are ${value.length} sequences; give one, as [[...], ...].`);
    value = value[0];
  }
  if (depth(value) === 1) value = channels === 1 ? value.map((number) => [number]) : [value];
  if (depth(value) !== 2 || !value.every(Array.isArray)) {
    throw new Error("Expected one sequence: [[...], [...], ...], a list of numbers a step.");
  }
  return value;
}

function readTable(text) {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line && !line.startsWith("#"));
  const rows = lines.map((line) => line.split(/\s*[,;\t]\s*|\s+/).map((cell) => (cell === "" ? NaN : Number(cell))));
  if (rows.length > 1 && rows[0].every(Number.isNaN)) rows.shift(); // a line of names
  rows.forEach((row, step) => {
    if (row.some(Number.isNaN)) {
      const line = lines[step + lines.length - rows.length];
      throw new Error(`Line ${step + 1} of the table is "${line.slice(0, 60)}"; expected numbers between commas.`);
    }
  });
  return rows;
}

/** Slow waves with a little noise, which look like a recording. */
function randomSequence(steps, channels) {
  const waves = Array.from({ length: channels }, () => (
    [0, 1, 2].map(() => ({ height: Math.random(), period: steps * (0.2 + Math.random()), shift: 7 * Math.random() }))
  ));
  return Array.from({ length: steps }, (_, step) => waves.map((wave) => {
    const noise = 0.1 * (Math.random() - 0.5);
    const sum = wave.reduce((sum, { height, period, shift }) => sum + height * Math.sin((6.28 * step) / period + shift), noise);
    return Number(sum.toFixed(3));
  }));
}

function showSequence(rows) {
  return `[${rows.map((row) => `[${row.join(", ")}]`).join(",\n ")}]`;
}

function randomText() {
  const words = "the sea was calm and the light of a late evening lay on every wave as we came home".split(" ");
  return Array.from({ length: 12 }, () => words[Math.floor(Math.random() * words.length)]).join(" ");
}
