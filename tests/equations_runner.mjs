// Asks equations.js the questions of equations_cases.py, in Node or in a page.

const clearlyInside = 1e-4; // a pixel nearer to the threshold may fall on either side

function decoded(text) {
  return new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

export function largestErrors(equations, cases) {
  const errors = {};
  let chain = null; // used again while the sizes stay, so that leftovers would be noticed
  for (const question of cases) {
    const { K, R, box, imageSize: [H, W], answer } = question;
    const arrays = { bases: decoded(question.bases), numbers: decoded(question.numbers) };
    if (chain?.crops.length !== K * R * R || chain.logits.length !== R * R) {
      chain = equations.newChain(K, R);
    }
    equations.compute({ ...question, ...arrays }, chain);
    const pasted = equations.paste(chain.probabilities, R, equations.clipBox(box, H, W), H, W);
    for (const [name, encoded] of Object.entries(answer)) {
      const expected = decoded(encoded);
      const found = name === "pasted" ? pasted : chain[name];
      if (found.length !== expected.length) throw new Error(`${name}: ${found.length} numbers`);
      const key = `${question.method} ${name}`;
      errors[key] ??= 0;
      for (let i = 0; i < expected.length; i += 1) {
        const error = name !== "pasted" ? Math.abs(found[i] - expected[i])
          : Math.abs(found[i] - 0.5) < clearlyInside ? 0 : Number(found[i] >= 0.5) !== expected[i];
        if (!(error <= errors[key])) errors[key] = Number(error);
      }
    }
  }
  return errors;
}

if (typeof process !== "undefined") {
  const { readFileSync } = await import("node:fs");
  const { pathToFileURL } = await import("node:url");
  const [, , module, cases] = process.argv;
  const equations = await import(pathToFileURL(module).href);
  console.log(JSON.stringify(largestErrors(equations, JSON.parse(readFileSync(cases, "utf8")))));
}
