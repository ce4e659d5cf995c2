// The page: joins address, pictures, network, equations and panels.

import { Blend } from "./blend.js";
import { Board } from "./board.js";
import { OBJECTS, tables } from "./colors.js";
import { Network } from "./model.js";
import { Contest, Rivals } from "./panels.js";
import { Part } from "./part.js";
import { fromCatalogue, fromFile, fromVideo, seenBy, truthAt } from "./picture.js";
import { Race } from "./race.js";
import { asPng, copied, saved } from "./share.js";
import { Stage } from "./stage.js";
import { decode, encode, History, untouched } from "./state.js";
import { Tour } from "./tour.js";

const NOTED = 6000; // milliseconds that a note stays
const find = (name) => document.getElementById(name);
const [catalogue, texts] = await Promise.all(
  ["catalogue.json", "tour.json"].map(async (name) => (await fetch(name)).json()),
);

let state = decode(location.hash, catalogue);
let history = new History(undoable(state));
let own = null; // the user's picture
let picture = null; // what is shown
let shown = ""; // model and picture of what is on the page
let blend = null;
let wanted = 0; // number of the last look
let isDrawn = true; // whether a frame is on its way otherwise
let colors = tables("light");
let hover = null; // the cell under the pointer

const part = new Part(() => applyTheme());
const network = new Network((share) => busy(`Loading the network … ${Math.round(share * 100)} %`));
const contest = new Contest();
const rivals = new Rivals(find("rivals"), (method) => {
  state.method = method;
  commit("method");
});
const race = new Race(find("race"), {
  open(isOpen) {
    if (isOpen === state.race) return;
    state.race = isOpen;
    commit("race");
  },
  loaded: () => draw(),
});
const board = new Board(find("chain"), {
  point,
  stroke(index, value) {
    if (state.method !== "blender") return;
    state.painted.set(index, value);
    draw();
  },
  gain(base, value) {
    const { K } = modelOf(state);
    state.gains = Array.from({ length: K }, (_, k) => (k === base ? value : state.gains[k] ?? 1));
    draw();
  },
  view(base) {
    state.view = state.view === String(base) ? "masks" : String(base);
    commit("view");
  },
  commit,
});
const stage = new Stage({
  box(box) {
    state.box = box;
    draw();
  },
  commit,
  choose(object) {
    if (object === state.object) return;
    Object.assign(state, untouched(), { object });
    choose();
    commit("object");
  },
  point,
});
const tour = new Tour(find("tour"), texts, {
  /** A step has a view of its own; what was there before can be had back by undoing. */
  begin(step) {
    state = { ...decode(texts.steps[step].view, catalogue), step };
    history.add(undoable(state));
    hover = null;
    remember("step", step);
    show();
  },
  end(isFinished) {
    state.step = null;
    if (isFinished) {
      remember("step", "");
      note(texts.words.closing);
    }
    tour.show(null);
    address();
  },
});

// ---------------------------------------------------------------- from the state to the page

const modelOf = ({ model }) => catalogue.models.find(({ key }) => key === model);
const entryOf = ({ picture: name }) => catalogue.pictures.find(({ key }) => key === name);
const titleOf = (given) => entryOf(given)?.title ?? "My picture";
const isTouched = () => Boolean(state.box || state.blank || state.painted.size
  || state.method !== "blender" || state.gains.some((gain) => gain !== 1));

function undoable(given) {
  return encode({ ...given, step: null });
}

function address() {
  window.history.replaceState(null, "", `#${encode(state)}`);
  find("undo").disabled = !history.past.length;
  find("redo").disabled = !history.future.length;
  find("reset").disabled = !isTouched();
  find("whole").href = `./#${encode(state)}`;
  find("guide").textContent = state.step === null && recall("step") ? "Resume the tour" : "Guided tour";
}

/** A gesture has ended: it can be undone, and is in the address. */
function commit(gesture) {
  // What is shown is what the address says, to the last digit.
  state.box = state.box?.map((side) => Number(side.toFixed(1))) ?? null;
  history.add(undoable(state));
  address();
  draw();
  tour.did(gesture);
  speak();
}

function busy(text) {
  find("busy").hidden = !text;
  document.body.classList.toggle("looking", Boolean(text));
  if (text) find("busy-text").textContent = text;
}

function say(text, kind = "") {
  find("say").textContent = text;
  find("say").dataset.kind = kind;
}

let noted = 0; // the timer of the note

/** A word that goes away, beside the page's buttons. */
function note(text) {
  find("note").textContent = text;
  clearTimeout(noted);
  noted = setTimeout(() => { find("note").textContent = ""; }, NOTED);
}

/** Put what the state says on the page; the network looks again only at another picture. */
async function show() {
  wanted += 1;
  const number = wanted;
  const model = modelOf(state);
  if (state.picture === "own" && !own) {
    state.picture = catalogue.pictures[0].key;
    Object.assign(state, untouched());
    say("That link was made with a picture of its sender's own, which stays with them.", "warning");
  }
  find("model").value = state.model;
  for (const input of find("thumbnails").querySelectorAll("input")) input.checked = input.value === state.picture;
  const wants = `${state.model} ${state.picture} ${state.picture === "own" ? own.number : ""}`;
  if (wants !== shown) {
    busy(shown ? "The network is looking …" : "Loading the network …");
    try {
      const next = state.picture === "own" ? own : await fromCatalogue(entryOf(state));
      if (number !== wanted) return;
      stage.show(next.canvas);
      find("caption").textContent = titleOf(state);
      shown = "";
      blend = null;
      const input = seenBy(model, next.canvas);
      const seen = await network.look(model, input);
      if (number !== wanted) return;
      arrange(next, seen);
      shown = wants;
    } catch (error) {
      if (number !== wanted) return;
      busy("");
      say(error.message, "error");
      return;
    }
    busy("");
  }
  if (blend) {
    choose();
    blend.update(state);
    speak();
  }
  draw();
  address();
  if (tour.step !== state.step) tour.show(state.step);
  tour.light(); // the rows may be new
  find("guide").disabled = false;
  document.body.dataset.ready = number;
  part.fit();
}

function arrange(next, seen) {
  const hasNone = seen.N === 0;
  find("board").hidden = hasNone;
  find("beat").hidden = hasNone;
  picture = next;
  list(seen);
  if (hasNone) {
    say("The network found nothing here. Try another picture or model.", "warning");
    return;
  }
  blend = new Blend(seen, truthAt(next.truth, seen.H, seen.W));
  board.arrange(seen);
  rivals.arrange(seen);
  stage.arrange(seen, blend.allMasks());
  board.showBases(picture.canvas, blend.limits.bases, colors);
  views(seen);
  const { model } = seen;
  const kind = entryOf(state)?.kind ?? "photo";
  const words = [];
  if (kind !== model.kind) words.push(model.unseen);
  if (seen.isWeak) words.push(`Nothing reaches a confidence of ${model.score}; these are its best guesses.`);
  say(words.join(" ") || `${model.knows}`, words.length ? "warning" : "");
  find("busy").dataset.milliseconds = Math.round(seen.milliseconds);
  find("busy").dataset.threads = seen.threads;
}

function choose() {
  state.object = Math.min(state.object, blend.seen.N - 1);
  blend.choose(state.object);
}

function list({ N, labels, scores, model }) {
  const group = find("objects");
  group.querySelectorAll("label").forEach((each) => each.remove());
  for (let i = 0; i < N; i += 1) {
    const label = document.createElement("label");
    const name = model.classes[labels[i]];
    label.innerHTML = `<input type="radio" name="object" value="${i}"><span><b></b> <small>${scores[i].toFixed(2)}</small></span>`;
    label.querySelector("b").textContent = name;
    label.style.setProperty("--color", OBJECTS[(i + 1) % OBJECTS.length]);
    label.firstChild.addEventListener("change", () => stage.on.choose(i));
    group.append(label);
  }
}

function views({ model: { K } }) {
  const group = find("views");
  if (group.querySelectorAll("label").length === K + 1) return;
  group.querySelectorAll("label").forEach((each) => each.remove());
  for (const [value, text] of [["masks", "Masks"], ...Array.from({ length: K }, (_, k) => [String(k), `Base ${k + 1}`])]) {
    const label = document.createElement("label");
    label.innerHTML = `<input type="radio" name="view" value="${value}"><span>${text}</span>`;
    label.firstChild.addEventListener("change", () => {
      state.view = value;
      commit("view");
    });
    group.append(label);
  }
}

// ---------------------------------------------------------------- frames

function draw() {
  if (!isDrawn) return;
  isDrawn = false;
  requestAnimationFrame(frame);
}

let over = ""; // what lies over the picture
let [wasTouched, wasAhead] = [false, false];

function frame() {
  isDrawn = true;
  if (!blend) return;
  blend.update(state);
  const lies = `${shown} ${state.view} ${state.view === "masks" ? state.object : ""}`;
  if (lies !== over) {
    over = lies;
    stage.drawOver(state, blend.limits.bases, colors);
  }
  board.pointed = hover ?? state.cell;
  stage.draw(blend, state);
  stage.mark(board.pointed);
  board.draw(blend, state, colors);
  rivals.draw(blend, state, colors);
  race.draw(blend, entryOf(state), state, colors);
  wasTouched = isTouched();
  const isAhead = contest.draw(blend, state, wasTouched);
  if (isAhead && !wasAhead) tour.did("beat");
  wasAhead = isAhead;
  for (const input of find("views").querySelectorAll("input")) input.checked = input.value === state.view;
  for (const input of find("objects").querySelectorAll("input")) input.checked = Number(input.value) === state.object;
  document.body.dataset.frames = Number(document.body.dataset.frames ?? 0) + 1;
}

/** The cell that numbers are shown for; a click keeps it. */
function point(cell, isPinned = false) {
  if (!blend) return;
  if (isPinned) {
    state.cell = cell;
    hover = null;
    commit("point");
    return;
  }
  if (cell === hover || (cell && hover && cell[0] === hover[0] && cell[1] === hover[1])) return;
  hover = cell;
  if (cell) tour.did("point");
  draw();
}

/** For screen readers, after a gesture. */
function speak() {
  if (!blend) return;
  const box = Array.from(blend.box, Math.round);
  const iou = blend.ious[blend.method];
  const name = blend.seen.model.classes[blend.seen.labels[state.object]];
  find("stage").setAttribute("aria-label", `Picture. ${name}, box from ${box[0]}, ${box[1]} to ${box[2]}, ${box[3]}${iou === null ? "" : `; IoU ${iou.toFixed(2)}`}`);
}

// ---------------------------------------------------------------- controls

function turnTo(text) {
  if (text === null) return;
  const { step } = state;
  state = decode(text, catalogue);
  state.step = step;
  hover = null;
  show();
}

async function takeOwn(read) {
  try {
    const next = await read();
    own = { ...next, number: (own?.number ?? 0) + 1 };
    seenBy(modelOf(state), own.canvas); // or it is refused before anything changes
    Object.assign(state, untouched(), { picture: "own" });
    history.add(undoable(state));
    await show();
  } catch (error) {
    say(error.message, "error");
  }
}

function change(parts, gesture) {
  Object.assign(state, untouched(), { view: "masks" }, parts);
  hover = null;
  history.add(undoable(state));
  tour.did(gesture);
  return show();
}

for (const model of catalogue.models) find("model").append(new Option(model.title, model.key));
find("model").addEventListener("change", (event) => change({ model: event.target.value }, "model"));

catalogue.pictures.forEach((entry, i) => {
  const label = document.createElement("label");
  const isFirstOfKind = catalogue.pictures[i - 1]?.kind !== entry.kind;
  label.className = `${entry.kind} ${isFirstOfKind ? "first" : ""}`;
  label.title = entry.title;
  label.innerHTML = `<input type="radio" name="picture" value="${entry.key}"><img alt="" src="${entry.thumbnail}" width="56" height="56"><span class="hidden"></span>`;
  label.lastChild.textContent = entry.title;
  label.firstChild.addEventListener("change", () => {
    // A picture of the other kind brings the model that knows such pictures, if there is one.
    const knows = catalogue.models.find(({ kind }) => kind === entry.kind);
    const model = modelOf(state).kind === entry.kind || !knows ? state.model : knows.key;
    change({ picture: entry.key, model }, `picture ${entry.key}`);
  });
  find("thumbnails").append(label);
});

find("undo").addEventListener("click", () => turnTo(history.undo()));
find("redo").addEventListener("click", () => turnTo(history.redo()));
find("reset").addEventListener("click", () => {
  Object.assign(state, untouched(), { object: state.object, method: "blender" });
  commit("reset");
});
find("blank").addEventListener("click", () => {
  Object.assign(state, { blank: true, painted: new Map(), method: "blender" });
  commit("blank");
});
find("truth").addEventListener("change", (event) => {
  state.truth = event.target.checked;
  commit("truth");
});
find("guide").addEventListener("click", () => (state.step === null ? tour.on.begin(Number(recall("step") ?? 0)) : tour.on.end(false)));
find("link").addEventListener("click", async () => {
  address();
  const isOwn = state.picture === "own" ? " Your own picture is not in it and stays here." : "";
  note((await copied(location.href)) ? `The link is copied.${isOwn}` : `Copy the address of this page.${isOwn}`);
});
find("save").addEventListener("click", async () => {
  if (!blend) return;
  saved(await asPng(stage, board, state, titleOf(state)), `blendmask-${state.picture}.png`);
});
find("upload").addEventListener("click", () => find("file").click());
find("file").addEventListener("change", () => {
  const [file] = find("file").files;
  if (file) takeOwn(() => fromFile(file));
  find("file").value = "";
});
window.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
  if (file) takeOwn(() => fromFile(file));
});
window.addEventListener("dragover", (event) => {
  if (![...event.dataTransfer.types].includes("Files")) return;
  event.preventDefault();
  find("drop").hidden = false;
});
window.addEventListener("dragleave", (event) => { if (!event.relatedTarget) find("drop").hidden = true; });
window.addEventListener("drop", (event) => {
  event.preventDefault();
  find("drop").hidden = true;
  const [file] = event.dataTransfer.files;
  if (file) takeOwn(() => fromFile(file));
});

let stream = null;
const endCamera = () => {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  find("video").srcObject = null;
};
find("camera").addEventListener("click", async () => {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    say(`There is no camera to use: ${error.message ?? error}`, "error");
    return;
  }
  find("video").srcObject = stream;
  find("shot").showModal();
});
find("take").addEventListener("click", () => {
  const video = find("video");
  if (!video.videoWidth) return;
  const taken = fromVideo(video);
  find("shot").close();
  takeOwn(async () => taken);
});
find("dismiss").addEventListener("click", () => find("shot").close());
find("shot").addEventListener("close", endCamera);

window.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || event.key.toLowerCase() !== "z") return;
  event.preventDefault();
  turnTo(event.shiftKey ? history.redo() : history.undo());
});
window.addEventListener("hashchange", () => {
  state = decode(location.hash, catalogue);
  history.add(undoable(state));
  show();
});

// ---------------------------------------------------------------- light and dark

function recall(name) {
  try {
    return localStorage.getItem(`playground ${name}`);
  } catch {
    return null; // the browser keeps nothing for this page
  }
}
function remember(name, value) {
  try {
    localStorage.setItem(`playground ${name}`, value);
  } catch { /* as above */ }
}

const isDarkOutside = matchMedia("(prefers-color-scheme: dark)");
function applyTheme() {
  const theme = part.theme ?? recall("theme") ?? (isDarkOutside.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  colors = tables(theme);
  over = "";
  draw();
}
find("theme").addEventListener("click", () => {
  remember("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  applyTheme();
});
isDarkOutside.addEventListener("change", applyTheme);

// For the console, and for tests.
globalThis.playground = {
  get state() { return state; },
  get blend() { return blend; },
  get picture() { return picture; },
  race,
};

// A narrow page has its columns below each other; a part is laid out closer than the whole page.
const narrow = matchMedia(`(max-width: ${part.name ? 540 : 820}px)`);
const layOut = () => document.body.classList.toggle("narrow", narrow.matches);
narrow.addEventListener("change", layOut);
layOut();
applyTheme();
await show();
