// Two painters on canvas: points and lines on two axes, and parallel coordinates. Nothing here knows about sweeps.
import {h} from './dom.js';
import {num} from './text.js';

const PAD = {left: 52, right: 14, bottom: 38};
const NEAR = 12; // distance in pixels at which the pointer selects a point

/** Position of a number on an axis, before scaling to pixels; a logarithmic range may be negative. */
const place = (v, log) => (!log ? v : v > 0 ? Math.log10(v) : -Math.log10(-v));

/** The pixel of a value on an axis {low, high, log} that runs from pixel `from` to `to`. */
function scale({low, high, log}, from, to) {
  const a = place(low, log), b = place(high, log);
  return (v) => (a === b ? (from + to) / 2 : from + ((place(v, log) - a) / (b - a)) * (to - from));
}

/** Round values within an axis: 1, 2, 5 times powers of ten. */
function ticks({low, high, log, whole}, count = 5) {
  if (low === high) return [low];
  const found = [];
  if (log) {
    const [small, large, sign] = low > 0 ? [low, high, 1] : [-high, -low, -1];
    const factors = large / small > 1000 ? [1] : [1, 2, 5];
    for (let power = Math.floor(Math.log10(small)); 10 ** power <= large; power += 1) {
      for (const f of factors) {
        const value = f * 10 ** power;
        if (value >= small * 0.999 && value <= large * 1.001) found.push(sign * value);
      }
    }
    return found;
  }
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  let step = power * [1, 2, 5, 10].find((f) => f * power >= raw);
  if (whole) step = Math.max(1, step);
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(+(i * step).toPrecision(12));
  return found;
}

/** A range a little wider than the numbers. */
export function range(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (low > high) return {low: 0, high: 1};
  const margin = (high - low) * 0.04 || Math.abs(low) * 0.1 || 1;
  return {low: low - margin, high: high + margin};
}

/** A figure with a canvas that repaints when its size or the colour scheme changes. Picks and hovers give a point's id. */
export class Chart {
  constructor(title, paint, {signal, pick, hover, note}) {
    Object.assign(this, {title, paint, hits: [], spec: null});
    this.canvas = h('canvas', {role: 'img', 'aria-label': `${title}: no data yet`});
    this.tip = h('div.tip', {hidden: true, 'aria-hidden': 'true'});
    this.box = h('div.canvas', {}, this.canvas, this.tip);
    this.node = h('figure', {}, h('figcaption', {}, h('h2', {}, title), note && h('p.hint', {}, note)), this.box);
    const observer = new ResizeObserver(() => this.repaint());
    observer.observe(this.box);
    signal.addEventListener('abort', () => observer.disconnect());
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.repaint(), {signal});
    this.canvas.addEventListener('pointermove', (event) => {
      const hit = this.near(event);
      this.tip.hidden = !hit;
      this.canvas.classList.toggle('pickable', Boolean(hit && pick));
      if (hit) {
        this.tip.textContent = hit.text;
        this.tip.style.left = `${Math.max(0, Math.min(hit.x, this.box.clientWidth - this.tip.offsetWidth))}px`;
        this.tip.style.top = `${hit.y + 12}px`;
      }
      hover?.(hit?.id ?? null);
    });
    this.canvas.addEventListener('pointerleave', () => {
      this.tip.hidden = true;
      hover?.(null);
    });
    this.canvas.addEventListener('click', (event) => {
      const hit = this.near(event);
      if (hit?.id != null) pick?.(hit.id);
    });
  }

  /** The point under the pointer. */
  near({offsetX, offsetY}) {
    let best = null, least = NEAR ** 2;
    for (const hit of this.hits) {
      const far = (hit.x - offsetX) ** 2 + (hit.y - offsetY) ** 2;
      if (far < least) [best, least] = [hit, far];
    }
    return best;
  }

  /** Draws a painter's spec. `label` is the text for screen readers, with the essential numbers. */
  show(spec, label) {
    this.spec = spec;
    this.canvas.setAttribute('aria-label', `${this.title}: ${label}`);
    this.repaint();
  }

  repaint() {
    const {clientWidth: width, clientHeight: height} = this.canvas;
    if (!this.spec || !width) return;
    const sharp = devicePixelRatio || 1, ctx = this.canvas.getContext('2d'), css = getComputedStyle(this.canvas);
    this.canvas.width = width * sharp;
    this.canvas.height = height * sharp;
    ctx.scale(sharp, sharp);
    ctx.font = `12px ${css.fontFamily}`;
    this.hits = [];
    this.paint(ctx, this.spec, {width, height, hits: this.hits, colour: (name) => css.getPropertyValue(name).trim()});
  }
}

/** One mark. Shapes differ, so that colour is never the only difference. */
function mark(ctx, shape, x, y, r) {
  ctx.beginPath();
  if (shape === 'cross') {
    ctx.moveTo(x - r, y - r);
    ctx.lineTo(x + r, y + r);
    ctx.moveTo(x - r, y + r);
    ctx.lineTo(x + r, y - r);
    ctx.stroke();
  } else if (shape.endsWith('diamond')) {
    ctx.moveTo(x, y - r);
    ctx.lineTo(x + r, y);
    ctx.lineTo(x, y + r);
    ctx.lineTo(x - r, y);
    ctx.closePath();
    if (shape === 'diamond') ctx.fill();
    else ctx.stroke();
  } else if (shape === 'square') {
    ctx.fillRect(x - r * 0.8, y - r * 0.8, r * 1.6, r * 1.6);
  } else {
    ctx.arc(x, y, r, 0, 7);
    ctx.fill();
  }
}

/** Writes the names of the series from left to right, on as many lines as they need; returns the top of the plot. */
function legend(ctx, series, width, colour) {
  let x = 4, y = 26;
  ctx.textAlign = 'left';
  ctx.textBaseline = 'middle';
  for (const s of series.filter(({name, points}) => name && points.length)) {
    const wide = ctx.measureText(s.name).width + 26;
    if (x > 4 && x + wide > width) [x, y] = [4, y + 16];
    ctx.fillStyle = colour('--ink');
    ctx.fillText(s.name, x + 26, y);
    ctx.strokeStyle = ctx.fillStyle = colour(s.colour);
    ctx.lineWidth = s.width ?? 2;
    ctx.setLineDash(s.dash ?? []);
    if (s.line) ctx.strokeRect(x, y, 20, 0);
    ctx.setLineDash([]);
    if (s.shape) mark(ctx, s.shape, x + 10, y, 4);
    x += wide + 14;
  }
  return y + 16;
}

/**
 * Paints {x, y, series}: axes {label, low?, high?, whole?} and series {name, colour, points: [[x, y, id?]], line?: "step" |
 * "straight" | "apiece" (a line for each id), dash?, width?, shape?, size?}. The names make the legend; `empty` says why nothing is there.
 */
export function plot(ctx, {x, y, series, empty = 'No data yet.'}, {width, height, hits, colour}) {
  const all = series.flatMap((s) => s.points);
  if (!all.length) { // empty axes would mislead
    ctx.fillStyle = colour('--muted');
    ctx.fillText(empty, 4, 20);
    return;
  }
  const xs = {...range(all.map((p) => p[0])), ...x}, ys = {...range(all.map((p) => p[1])), ...y};
  const toX = scale(xs, PAD.left, width - PAD.right), toY = scale(ys, height - PAD.bottom, legend(ctx, series, width, colour));
  ctx.lineWidth = 1;
  ctx.strokeStyle = colour('--line');
  ctx.fillStyle = colour('--muted');
  ctx.textAlign = 'right';
  ctx.textBaseline = 'middle';
  for (const v of ticks(ys)) {
    ctx.strokeRect(PAD.left, Math.round(toY(v)) + 0.5, width - PAD.left - PAD.right, 0);
    ctx.fillText(num(v), PAD.left - 6, toY(v));
  }
  ctx.textAlign = 'center';
  ctx.textBaseline = 'top';
  for (const v of ticks(xs, width / 90)) ctx.fillText(num(v), toX(v), height - PAD.bottom + 5);
  ctx.fillText(xs.label, (PAD.left + width - PAD.right) / 2, height - 15);
  ctx.textAlign = 'left';
  ctx.fillText(ys.label, 4, 4);
  for (const s of series) {
    ctx.strokeStyle = ctx.fillStyle = colour(s.colour);
    ctx.lineWidth = s.width ?? 2;
    ctx.setLineDash(s.dash ?? []);
    if (s.line) {
      ctx.beginPath();
      s.points.forEach(([px, py, id], i) => {
        const begins = !i || (s.line === 'apiece' && s.points[i - 1][2] !== id);
        if (i && s.line === 'step') ctx.lineTo(toX(px), toY(s.points[i - 1][1]));
        ctx[begins ? 'moveTo' : 'lineTo'](toX(px), toY(py));
      });
      ctx.stroke();
    }
    ctx.setLineDash([]);
    if (s.shape) s.points.forEach(([px, py]) => mark(ctx, s.shape, toX(px), toY(py), s.size ?? 3));
    for (const [px, py, id] of s.points) {
      const who = id == null ? s.name : `trial ${id}`;
      hits.push({x: toX(px), y: toY(py), id, text: `${who}: ${num(py)} at ${num(px)}`});
    }
  }
}

/** The colour at `share` of the way between two colours #rrggbb. */
function mix(from, to, share) {
  const part = (text, i) => parseInt(text.slice(1 + 2 * i, 3 + 2 * i), 16);
  return `rgb(${[0, 1, 2].map((i) => Math.round(part(from, i) + share * (part(to, i) - part(from, i)))).join(' ')})`;
}

/**
 * Paints {axes: [{label, low, high, log} | {label, choices}], rows: [{id, values: [one per axis], share: 0 to 1}], marked:
 * [{id, colour, dash}]}: a line per row, coloured by `share`, the highest on top and the marked rows thick.
 */
export function parallel(ctx, {axes, rows, marked}, {width, height, hits, colour}) {
  const left = 40, right = width - 40, top = 40, bottom = height - 12, [worst, best] = [colour('--worst'), colour('--best')];
  const at = axes.map((_, i) => (axes.length === 1 ? left : left + (i * (right - left)) / (axes.length - 1)));
  const to = axes.map((axis) => {
    if (!axis.choices) return scale(axis, bottom, top);
    const y = scale({low: 0, high: Math.max(1, axis.choices.length - 1)}, bottom, top);
    return (v) => y(axis.choices.indexOf(v));
  });
  const trace = ({id, values}) => values.forEach((v, i) => {
    if (v === undefined) return; // the field is inactive, and the line has a gap
    const y = to[i](v);
    ctx[i && values[i - 1] !== undefined ? 'lineTo' : 'moveTo'](at[i], y);
    hits.push({x: at[i], y, id, text: `trial ${id}: ${axes[i].label} ${typeof v === 'number' ? num(v) : v}`});
  });
  const shades = 16; // few strokes, however many rows
  const buckets = Array.from({length: shades + 1}, () => []);
  rows.forEach((row) => buckets[Math.round(row.share * shades)].push(row));
  const strength = Math.max(0.2, Math.min(1, 60 / rows.length));
  buckets.forEach((bucket, i) => {
    ctx.globalAlpha = strength * (0.3 + (0.7 * i) / shades);
    ctx.beginPath();
    bucket.forEach(trace);
    ctx.strokeStyle = mix(worst, best, i / shades);
    ctx.stroke();
  });
  ctx.globalAlpha = 1;
  for (const {id: wanted, colour: name, dash} of marked) {
    ctx.beginPath();
    rows.filter(({id}) => id === wanted).forEach(trace);
    ctx.lineWidth = 3;
    ctx.setLineDash(dash);
    ctx.strokeStyle = colour(name);
    ctx.stroke();
  }
  ctx.setLineDash([]);
  ctx.lineWidth = 1;
  ctx.strokeStyle = colour('--edge');
  axes.forEach((axis, i) => {
    ctx.strokeRect(at[i], top, 0, bottom - top);
    ctx.textAlign = i === 0 ? 'left' : i === axes.length - 1 ? 'right' : 'center';
    ctx.textBaseline = 'top';
    ctx.fillStyle = colour('--ink');
    const edge = i === 0 ? 4 : i === axes.length - 1 ? width - 4 : at[i];
    ctx.fillText(axis.label + (axis.log ? ' (log)' : ''), edge, i % 2 ? 20 : 4); // neighbours' names on two lines
    ctx.textAlign = i === axes.length - 1 ? 'left' : 'right';
    ctx.textBaseline = 'middle';
    for (const v of axis.choices ?? ticks(axis)) {
      const text = typeof v === 'number' ? num(v) : String(v), x = at[i] + (i === axes.length - 1 ? 5 : -5), y = to[i](v);
      ctx.globalAlpha = 0.75;
      ctx.fillStyle = colour('--paper');
      const wide = ctx.measureText(text).width;
      ctx.fillRect(ctx.textAlign === 'left' ? x : x - wide, y - 7, wide, 14);
      ctx.globalAlpha = 1;
      ctx.fillStyle = colour('--muted');
      ctx.fillText(text, x, y);
    }
  });
}
