// Runs the network away from the page, so that the page never waits: one model at a time.

import * as ort from "./runtime/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;
// Threads share memory, which browsers allow only for isolated pages (see serve.py).
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 4) : 1;

let loaded = { file: "", session: null };

async function load(file, number) {
  if (loaded.file === file) return loaded.session;
  const answer = await fetch(file);
  if (!answer.ok) throw new Error(`${file}: ${answer.status} ${answer.statusText}`);
  const total = Number(answer.headers.get("Content-Length"));
  const isPacked = Boolean(answer.headers.get("Content-Encoding"));
  const parts = [];
  let received = 0;
  for (const reader = answer.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    received += value.length;
    if (total && !isPacked) self.postMessage({ number, share: received / total });
  }
  const bytes = new Uint8Array(received);
  parts.reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
  await loaded.session?.release();
  loaded = { file: "", session: null };
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  loaded = { file, session };
  return session;
}

async function run({ number, file, pixels, height, width }) {
  const session = await load(file, number);
  const started = performance.now();
  const image = new ort.Tensor("float32", pixels, [3, height, width]);
  const outputs = await session.run({ image });
  const milliseconds = performance.now() - started;
  const found = {};
  for (const [name, tensor] of Object.entries(outputs)) {
    const values = tensor.type === "int64" ? Float64Array.from(tensor.data, Number) : tensor.data.slice();
    found[name] = { dims: tensor.dims, values };
    tensor.dispose();
  }
  image.dispose();
  const buffers = Object.values(found).map((each) => each.values.buffer);
  self.postMessage({ number, found, milliseconds, threads: ort.env.wasm.numThreads }, buffers);
}

// One after the other: a session does not run twice at a time.
let last = Promise.resolve();
self.onmessage = ({ data }) => {
  last = last.then(() => run(data)).catch((error) => {
    self.postMessage({ number: data.number, error: String(error?.message ?? error) });
  });
};
