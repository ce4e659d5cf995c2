// Times exported files (`export --explore`) in the playground's runtime, in Node on one thread:
// megabytes, and CPU seconds to load the file and for an image of noise, the median of three.
//
//     make playground
//     node benchmarks/wasm.mjs small.onnx 192 -- r50.onnx 512

import { readFileSync } from "node:fs";
import process from "node:process";

const runtime = new URL("../build/playground/runtime/", import.meta.url);
const ort = await import(new URL("ort.wasm.min.mjs", runtime));
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = runtime.href;
ort.env.wasm.wasmBinary = readFileSync(new URL("ort-wasm-simd-threaded.wasm", runtime));

/** CPU seconds of this process, which other work on the machine does not change much. */
async function timed(work) {
  const before = process.cpuUsage();
  const result = await work();
  const { user, system } = process.cpuUsage(before);
  return { result, seconds: (user + system) / 1e6 };
}

for (const task of process.argv.slice(2).join(" ").split(" -- ")) {
  const [file, ...sides] = task.split(" ");
  const bytes = readFileSync(file);
  const { result: session, seconds } = await timed(() => ort.InferenceSession.create(bytes));
  console.log(`${file}: ${(bytes.length / 1e6).toFixed(1)} MB, loaded in ${seconds.toFixed(1)} s`);
  for (const side of sides.map(Number)) {
    const pixels = Float32Array.from({ length: 3 * side * side }, Math.random);
    const image = new ort.Tensor("float32", pixels, [3, side, side]);
    const times = [];
    for (let i = 0; i < 3; i += 1) times.push((await timed(() => session.run({ image }))).seconds);
    const megabytes = process.memoryUsage().rss / 1e6;
    console.log(`  ${side} x ${side}: ${times.sort((a, b) => a - b)[1].toFixed(2)} s, ${megabytes.toFixed(0)} MB of memory`);
  }
  await session.release();
}
