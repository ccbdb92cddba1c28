// The page: the list of slides, one slide as deep zoom with its map and lesions, and the reader's verdicts.

import { Outlines, drawLegend, drawScaleBar, paint } from "./overlay.js";

const OSD = window.OpenSeadragon;
const $ = (selector) => document.querySelector(selector);
const [threshold, opacity] = [$("#threshold"), $("#opacity")];
let slides = [], slide = null, chosen = null, mapImage = null;

const viewer = OSD({
  element: $("#viewer"), drawer: "canvas", showNavigationControl: false, showNavigator: true, navigatorAutoFade: false, navigatorPosition: "BOTTOM_RIGHT",
  navigatorSizeRatio: 0.16, maxZoomPixelRatio: 4, minZoomImageRatio: 0.7, visibilityRatio: 0.3, animationTime: 0.5, blendTime: 0.1,
  imageLoaderLimit: 6, placeholderFillStyle: "#fff", gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
});
const outlines = new Outlines(viewer);
viewer.addHandler("tile-invalidated", async (event) => {
  if (event.tiledImage === mapImage || event.tiledImage?.source.isMap) await paint(event, Number(threshold.value));
});
viewer.addHandler("update-viewport", () => slide && drawScaleBar($("#scale-bar"), viewer, slide));
viewer.addHandler("canvas-click", (event) => {
  const id = event.quick && slide && $("#show-lesions").checked ? outlines.at(event.position) : null;
  if (id) choose(id, false);
});

async function ask(address, options) {
  const answer = await fetch(address, options);
  if (!answer.ok) throw new Error((await answer.text()) || answer.statusText);
  return answer.json();
}

function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const percent = (p) => p.toFixed(3);
const area = (um2) => um2 >= 1e5 ? `${(um2 / 1e6).toFixed(2)} mm²` : `${Math.round(um2).toLocaleString("en")} µm²`;

function listSlides() {
  $("#slide-count").textContent = `${slides.length}, by score`;
  $("#slide-list").replaceChildren(...slides.map((entry) => {
    const picture = make("img", { src: `slides/${entry.number}/slide/8/0_0.jpg`, loading: "lazy", alt: "" });
    picture.addEventListener("error", () => { picture.style.visibility = "hidden"; });
    const verdict = make("small", {}, make("span", { className: entry.verdict, textContent: entry.verdict }), " ",
      make("span", { className: "score", textContent: percent(entry.score) }));
    const truth = make("small", { textContent: entry.truth_label ? `truth: ${entry.truth_label}` : "" });
    const reviewed = make("small", { className: "reviewed" });
    const button = make("button", { type: "button", title: entry.slide_id }, picture,
      make("span", {}, make("strong", { textContent: entry.slide_id }), verdict, truth, reviewed));
    button.addEventListener("click", () => open(entry.number));
    return make("li", {}, button);
  }));
  slides.forEach(showDecided);
}

function showDecided(entry) {
  const text = $("#slide-list").children[entry.number].querySelector(".reviewed");
  text.textContent = entry.decided ? `${entry.decided} lesion${entry.decided > 1 ? "s" : ""} reviewed` : "";
}

async function open(number) {
  const asked = await ask(`slides/${number}`);
  [slide, chosen, mapImage] = [asked, null, null];
  for (const [i, item] of [...$("#slide-list").children].entries()) {
    item.firstElementChild.toggleAttribute("aria-current", i === number);
    if (i === number) item.scrollIntoView({ block: "nearest" });
  }
  $("#name").textContent = slide.slide_id;
  const [width, height] = slide.size_l0.map((n) => (n * slide.mpp / 1000).toFixed(1));
  $("#facts").replaceChildren(
    make("span", { className: slide.verdict, textContent: slide.verdict }), ` ${percent(slide.score)}`,
    slide.raw_score == null ? "" : `, largest P ${percent(slide.raw_score)}`,
    slide.truth_label ? `; truth ${slide.truth_label}` : "",
    make("br"), `${width} × ${height} mm, ${slide.mpp.toFixed(3)} µm/px`);
  complain(slide.problems.join("\n"));
  $("#truth-key").hidden = slide.truth == null || slide.truth === "";
  listLesions();
  viewer.close();
  outlines.show(slide);
  showLayers();
  addImage(slide.slide, "slide", "jpg", 1);
  addImage(slide.map, "map", "png", Number(opacity.value));
  location.replace(`#${number}`);
}

function addImage(source, kind, suffix, shade) {
  if (!source) return;
  const of = slide;
  viewer.addTiledImage({
    tileSource: {
      ...source, minLevel: 0, isMap: kind === "map",
      getTileUrl: (level, x, y) => `slides/${of.number}/${kind}/${level}/${x}_${y}.${suffix}`,
    },
    x: 0, y: 0, width: source.width_l0 / of.size_l0[0], opacity: shade,
    success: ({ item }) => {
      if (of !== slide) viewer.world.removeItem(item);
      else if (kind === "map") mapImage = item;
    },
    error: ({ message }) => complain(message),
  });
}

function complain(text) {
  $("#problem").textContent = text;
  $("#problem").hidden = !text;
}

function listLesions() {
  const shown = slide.lesions.length, all = slide.lesions_in_all;
  $("#lesion-count").textContent = all > shown ? `${shown} of ${all.toLocaleString("en")}, the most probable` : `${all}`;
  $("#lesion-list").replaceChildren(...slide.lesions.map((lesion, i) => {
    const go = make("button", { type: "button", className: "go" }, `${i + 1}. ${area(lesion.area_um2)}`,
      make("small", { textContent: `P ${percent(lesion.largest)}, mean ${percent(lesion.mean)}` }));
    go.addEventListener("click", () => choose(lesion.id, true));
    const [accept, reject] = [["accept", "accepted"], ["reject", "rejected"]].map(([word, verdict]) => {
      const button = make("button", { type: "button", className: `decide ${word}`, textContent: word });
      button.addEventListener("click", () => { choose(lesion.id, false); decide(lesion.verdict === verdict ? null : verdict); });
      return button;
    });
    return make("li", {}, go, accept, reject);
  }));
  if (!all) $("#lesion-list").append(make("li", { className: "none", textContent: "none at or above 0.5" }));
}

function showVerdicts() {
  slide.lesions.forEach((lesion, i) => {
    const item = $("#lesion-list").children[i];
    item.className = `${lesion.verdict ?? ""} ${lesion.id === chosen ? "chosen" : ""}`;
    outlines.mark(lesion, lesion.id === chosen);
  });
}

function choose(id, travel) {
  chosen = id;
  const number = slide.lesions.findIndex((lesion) => lesion.id === id);
  $("#lesion-list").children[number].scrollIntoView({ block: "nearest" });
  showVerdicts();
  if (!travel) return;
  const [x, y, w, h] = slide.lesions[number].bounds, side = Math.max(w, h, 200 / slide.mpp) * 2, scale = 1 / slide.size_l0[0];
  viewer.viewport.fitBounds(new OSD.Rect((x + w / 2 - side / 2) * scale, (y + h / 2 - side / 2) * scale, side * scale, side * scale));
}

async function decide(verdict) {
  const [of, lesion] = [slide, slide.lesions.find(({ id }) => id === chosen)];
  if (!lesion) return;
  try {
    await ask(`slides/${of.number}/verdict`, {
      method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ lesion: lesion.id, verdict }),
    });
    lesion.verdict = verdict;
    const entry = slides[of.number];
    entry.decided = of.lesions.filter((one) => one.verdict).length;
    showDecided(entry);
    complain("");
  } catch (error) {
    complain(error.message);
  }
  if (of === slide) showVerdicts();
}

function showLayers() {
  for (const slider of [threshold, opacity]) slider.parentElement.querySelector("output").textContent = Number(slider.value).toFixed(2);
  drawLegend($("#legend canvas"), Number(threshold.value));
  if (slide) outlines.visible($("#show-lesions").checked, $("#show-truth").checked);
  mapImage?.setOpacity(Number(opacity.value));
}

function stepLesion(step) {
  if (!slide?.lesions.length) return;
  const at = slide.lesions.findIndex(({ id }) => id === chosen), count = slide.lesions.length;
  choose(slide.lesions[at < 0 ? (step > 0 ? 0 : count - 1) : (at + step + count) % count].id, true);
}

function stepSlide(step) {
  const next = (slide?.number ?? 0) + step;
  if (next >= 0 && next < slides.length) open(next);
}

let shade = 0;
const KEYS = {
  ArrowUp: () => stepSlide(-1), ArrowDown: () => stepSlide(1), n: () => stepLesion(1), p: () => stepLesion(-1),
  a: () => decide("accepted"), r: () => decide("rejected"), u: () => decide(null),
  m: () => { [opacity.value, shade] = Number(opacity.value) ? [0, opacity.value] : [shade || 0.45, 0]; showLayers(); },
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.type === "range" || !KEYS[event.key]) return;
  event.preventDefault();
  event.stopPropagation();
  KEYS[event.key]();
}, true);
let painting = Promise.resolve(), waiting = false;
threshold.addEventListener("input", () => {
  showLayers();
  if (waiting || !mapImage) return;
  waiting = true;
  painting = painting.then(() => { waiting = false; return mapImage?.requestInvalidate(true); });
});
opacity.addEventListener("input", showLayers);
for (const box of ["#show-lesions", "#show-truth"]) $(box).addEventListener("change", showLayers);

showLayers();
slides = await ask("slides");
listSlides();
const first = Number(location.hash.slice(1));
if (slides.length) await open(first < slides.length ? first : 0);
Object.assign(window, { wsiViewer: viewer });
