// What lies over the slide: the coloured probability map, outlines, scale bar.

const OSD = window.OpenSeadragon;
const STOPS = [[255, 255, 178], [254, 204, 92], [253, 141, 60], [240, 59, 32], [160, 0, 32]]; // pale yellow to dark red

// RGBA of the 256 grey levels of the map, transparent below the threshold.
export function colours(threshold) {
  const table = new Uint8ClampedArray(256 * 4);
  for (let grey = 0; grey < 256; grey++) {
    const place = (grey / 255) * (STOPS.length - 1), stop = Math.min(STOPS.length - 2, Math.floor(place));
    for (let c = 0; c < 3; c++) {
      table[4 * grey + c] = STOPS[stop][c] + (place - stop) * (STOPS[stop + 1][c] - STOPS[stop][c]);
    }
    table[4 * grey + 3] = grey > 0 && grey / 255 >= threshold ? 255 : 0;
  }
  return table;
}

// Colour a grey tile; OpenSeadragon keeps the grey one, so that a new threshold loads nothing.
export async function paint(event, threshold) {
  const context = await event.getData("context2d");
  if (!context) return;
  const { width, height } = context.canvas;
  const image = context.getImageData(0, 0, width, height);
  const table = new Uint32Array(colours(threshold).buffer), pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = table[pixels[i] & 255];
  context.putImageData(image, 0, 0);
  await event.setData(context, "context2d");
}

export function drawLegend(canvas, threshold) {
  canvas.getContext("2d").putImageData(new ImageData(colours(threshold), 256, 1), 0, 0);
}

// Outlines in level-0 pixels that follow the viewport.
export class Outlines {
  constructor(viewer) {
    this.viewer = viewer;
    this.svg = element("svg", { class: "outlines" });
    this.group = element("g", {});
    this.svg.append(this.group);
    viewer.canvas.append(this.svg);
    viewer.addHandler("update-viewport", () => this.follow());
    viewer.addHandler("resize", () => this.follow());
  }

  show(slide) {
    this.width = slide.size_l0[0];
    this.truth = slide.truth ? ["truth-halo", "truth"].map((name) => element("path", { class: name, d: slide.truth })) : [];
    this.lesions = new Map(slide.lesions.map((lesion) => [lesion.id, [
      element("path", { class: "halo", d: lesion.path }),
      element("path", { class: "lesion", d: lesion.path, "fill-rule": "evenodd", "data-lesion": lesion.id }),
    ]]));
    this.group.replaceChildren(...[...this.lesions.values()].flat(), ...this.truth);
    this.follow();
  }

  follow() {
    const { viewport } = this.viewer;
    if (!viewport || !this.width) return;
    const corner = viewport.pixelFromPoint(new OSD.Point(0, 0), true);
    const scale = viewport.deltaPixelsFromPoints(new OSD.Point(1, 0), true).x / this.width;
    this.group.setAttribute("transform", `translate(${corner.x} ${corner.y}) scale(${scale})`);
  }

  mark(lesion, chosen) {
    const [, line] = this.lesions.get(lesion.id);
    line.setAttribute("class", `lesion ${lesion.verdict ?? ""} ${chosen ? "chosen" : ""}`);
  }

  visible(lesions, truth) {
    for (const path of [...this.lesions.values()].flat()) path.style.display = lesions ? "" : "none";
    for (const path of this.truth) path.style.display = truth ? "" : "none";
  }

  // The id of the lesion at a point of the screen.
  at(position) {
    const point = this.svg.createSVGPoint();
    Object.assign(point, { x: position.x, y: position.y });
    const inside = point.matrixTransform(this.group.getCTM().inverse());
    for (const [id, [, line]] of this.lesions) if (line.isPointInFill(inside)) return id;
    return null;
  }
}

export function drawScaleBar(bar, viewer, slide) {
  const um = slide.size_l0[0] * slide.mpp / viewer.viewport.deltaPixelsFromPoints(new OSD.Point(1, 0), true).x; // a screen pixel
  const wanted = 120 * um, power = 10 ** Math.floor(Math.log10(wanted));
  const length = [5, 2, 1].map((n) => n * power).find((n) => n <= wanted);
  bar.firstElementChild.style.width = `${length / um}px`;
  const text = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
  bar.replaceChildren(bar.firstElementChild, text);
}

function element(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
