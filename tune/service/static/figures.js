// The charts of one sweep, drawn from its rows.
import {call, sweepPath} from './api.js';
import {Chart, parallel, plot, range} from './charts.js';
import {h} from './dom.js';
import {action, errorPlace, showError} from './ui.js';
import {num, objective, shown} from './text.js';

const NONE = 'No trial has completed yet.';
// Look of the curves, by the state of the trial.
const GROUPS = {
  complete: {colour: '--dots', takes: (row) => row.state === 'COMPLETE' && row.feasible},
  'breaks a constraint': {colour: '--bad', dash: [6, 3], takes: (row) => row.state === 'COMPLETE' && !row.feasible},
  pruned: {colour: '--second', dash: [2, 3], takes: (row) => row.state === 'PRUNED'},
  failed: {colour: '--bad', dash: [2, 3], takes: (row) => row.state === 'FAIL'},
  'not final': {colour: '--third', dash: [4, 3], width: 2, shape: 'dot', takes: (row) => ['RUNNING', 'INTERRUPTED'].includes(row.state)},
};

/** Trials that no shown trial beats on both axes. Points are [x, y, id]; signs give the better direction. */
function front(points, xSign, ySign) {
  const sorted = [...points].sort((a, b) => xSign * (b[0] - a[0]) || ySign * (b[1] - a[1]));
  let best = -Infinity;
  return sorted.filter((p) => ySign * p[1] > best && ((best = ySign * p[1]), true));
}

/** A trial or, if it was run again, its last rerun. */
const newest = (rows, number) => [...rows.values()].sort((a, b) => a.number - b.number)
  .reduce((found, row) => (found && row.source === `rerun:${found.number}` ? row : found), rows.get(number));

/** The trials that charts show: the sweep's own, and of imported trials only the chosen one, the luckiest and trial 0, as in the report. */
function charted(sweep, rows) {
  const first = newest(rows, 0);
  return new Map([...rows].filter(([number, row]) => !row.imported || [sweep.chosen?.number, sweep.best?.number].includes(number) || row === first));
}

/** The figures' node; draw(sweep, rows, selected) redraws them. `pick` opens a trial. */
export function figures(name, {signal, pick}) {
  let hovered = null, timer = 0, last = null, counted = 0;
  const options = {signal, pick, hover: (id) => {
    clearTimeout(timer);
    timer = setTimeout(() => { // not for every point that the pointer passes
      hovered = id;
      drawTasks();
    }, 150);
  }};
  const progress = new Chart('Best so far', plot, options);
  const coordinates = new Chart('Parameters and value', parallel,
    {...options, note: 'One line per complete trial; better trials are more vivid. Thick lines: the chosen trial, the selected trial, (dashed) trial 0 and (dotted) the luckiest trial.'});
  Object.entries({tabindex: 0, role: 'region', 'aria-label': 'Parameters and value, scrollable'})
    .forEach(([key, value]) => coordinates.box.setAttribute(key, value));
  coordinates.node.classList.add('wide');
  const pareto = new Chart('Trade-off', plot, options);
  const tasks = new Chart('After each task', plot, options);
  const shares = h('tbody'), sharesNote = h('p.hint', {}, 'Not computed yet.'), problem = errorPlace();
  const importance = h('figure', {}, h('figcaption', {}, h('h2', {}, 'Importance of parameters')), sharesNote,
    h('table.bars', {}, h('caption.unseen', {}, 'Share of the variance of the first objective'), h('thead.unseen', {}, h('tr', {},
      ['Parameter', 'Share', ''].map((text) => h('th', {scope: 'col'}, text || 'Bar')))), shares),
    problem, action('Compute again', problem, () => weigh()));
  const node = h('section.charts', {'aria-label': 'Charts'}, progress.node, tasks.node, pareto.node, importance, coordinates.node);

  /** The trials that every chart marks by name: [name, number, colour, dash, shape]. */
  function marks({sweep, rows}) {
    const first = newest(rows, 0), source = rows.get(0)?.source, best = sweep.chosen?.number, lucky = sweep.best?.number;
    return [first && ![best, lucky].includes(first.number) && [`${source}: trial ${first.number}`, first.number, '--ink', [8, 3, 2, 3], 'square'],
      best != null && [`chosen${best === first?.number ? ` = ${source}` : ''}: trial ${best}`, best, '--accent', [], 'diamond'],
      lucky != null && lucky !== best && [`luckiest${lucky === first?.number ? ` = ${source}` : ''}: trial ${lucky}`, lucky, '--accent', [2, 3], 'open diamond']].filter(Boolean);
  }

  /** The marks as series of points. point(row) is [x, y, number], or null without a value. */
  const marked = (state, point) => marks(state).filter(([, number]) => state.rows.has(number)).map(([name, number, colour, , shape]) => (
    {name, colour, shape, size: 6, points: [point(state.rows.get(number))].filter(Boolean)}));

  /** Each trial's first objective after each task, also while it runs; the marked, selected and hovered ones on top. */
  function drawTasks() {
    if (!last || signal.aborted) return;
    const {sweep, rows, selected} = last, {metric} = objective(sweep.objectives[0]), all = [...charted(sweep, rows).values()];
    const points = (row) => row.curve.map((v, i) => [i + 1, v, row.number]).filter((p) => p[1] != null);
    const groups = Object.entries(GROUPS).map(([name, {takes, ...look}]) => (
      {name, line: 'apiece', width: 1, ...look, points: all.filter(takes).flatMap(points)}));
    const special = [...marks(last), ['selected', selected, '--second', [8, 4], 'dot'], ['under the pointer', hovered, '--muted', [2, 3], 'dot']]
      .filter(([, number]) => rows.has(number)).map(([name, number, colour, dash, shape]) => (
        {name: name.includes(':') ? name : `${name}: trial ${number}`, colour, dash, shape, size: 4, width: 3, line: 'straight',
          points: points(rows.get(number))}));
    const running = all.filter((row) => row.state === 'RUNNING' && row.curve.length);
    tasks.show({x: {label: 'after training task', whole: true}, y: {label: metric}, series: [...groups, ...special],
      empty: 'No task has ended yet.'}, [...special.map((s) => `${s.name}: ${s.points.map((p) => num(p[1])).join(', ') || 'nothing yet'}`),
      ...running.slice(0, 8).map((row) => `trial ${row.number}, running: ${row.curve.map(num).join(', ')}`)].join('; ') || 'no task has ended yet');
  }

  /** The first objective of complete trials by their numbers, and the best so far. */
  function drawProgress(sweep, rows) {
    const {metric, sign, better} = objective(sweep.objectives[0]);
    const whole = [...rows.values()].filter((row) => row.value != null).sort((a, b) => a.number - b.number);
    const point = (row) => row.value == null ? null : [row.number, row.value, row.number], best = [];
    let top = null;
    for (const row of whole) if (row.feasible && (!top || sign * (row.value - top[1]) > 0)) best.push(top = point(row));
    const end = Math.max(1, ...rows.keys()), line = top ? [...best, [end, top[1], top[2]]] : [];
    progress.show({x: {label: 'trial', low: 0, high: end, whole: true}, y: {label: metric}, empty: NONE, series: [
      {name: 'complete', colour: '--dots', shape: 'dot', size: whole.length > 500 ? 2 : 3, points: whole.filter((row) => row.feasible).map(point)},
      {name: 'breaks a constraint', colour: '--bad', shape: 'cross', size: 3, width: 1, points: whole.filter((row) => !row.feasible).map(point)},
      {name: 'best so far', colour: '--accent', line: 'step', points: line}, ...marked({sweep, rows}, point)]},
    top ? `${metric} ${num(top[1])} in trial ${top[2]} (${better} is better), the best of ${whole.length} complete trials; the first had ` +
      num(whole[0].value) : 'no complete trial yet');
  }

  /** Parallel coordinates of the complete trials. */
  function drawCoordinates(sweep, rows, selected) {
    const {metric, sign} = objective(sweep.objectives[0]);
    const whole = [...rows.values()].filter((row) => row.value != null);
    const {low, high} = range(whole.map((row) => row.value));
    const axes = sweep.parameters.map((p) => {
      const values = whole.map((row) => row.config[p.name]).filter((v) => v != null); // imported values may lie outside
      if (p.choices) return {label: p.name, choices: [...new Set([...p.choices, ...values])]};
      return {label: p.name, log: p.log, low: values.reduce((a, b) => Math.min(a, b), p.low),
        high: values.reduce((a, b) => Math.max(a, b), p.high)};
    });
    const known = whole.filter((row) => sweep.parameters.every((p) => p.when || row.config[p.name] !== undefined));
    const shownMarks = marks({sweep, rows}).map(([, id, colour, dash]) => ({id, colour, dash}));
    if (selected !== null) shownMarks.push({id: selected, colour: '--second', dash: []});
    coordinates.canvas.style.minWidth = `${100 * (axes.length + 1)}px`;
    coordinates.show({axes: [...axes, {label: metric, low, high}], marked: shownMarks, rows: known.map((row) => ({
      id: row.number, values: [...sweep.parameters.map((p) => row.config[p.name]), row.value],
      share: sign > 0 ? (row.value - low) / (high - low) : (high - row.value) / (high - low),
    }))}, `${known.length} complete trials over ${axes.map((a) => a.label).join(', ')}` + (sweep.chosen
      ? `; the chosen, trial ${sweep.chosen.number}, has ` + Object.entries(sweep.chosen.config).map(([k, v]) => `${k} ${shown(v)}`).join(', ') : ''));
  }

  /** The first objective against the second, or against compute, which is always on the x axis. */
  function drawPareto(sweep, rows) {
    const fallback = `${Object.keys(sweep.metrics).find((m) => m.endsWith('class_il'))}:max`;
    const [lead, second] = [sweep.objectives[0], sweep.objectives[1] ?? 'compute:min'].map(objective);
    const [x, y] = lead.metric !== 'compute' ? [second, lead] : [lead, sweep.objectives[1] ? second : objective(fallback)];
    const point = (row) => (row.state !== 'COMPLETE' || row.metrics[x.metric] == null || row.metrics[y.metric] == null ? null
      : [row.metrics[x.metric], row.metrics[y.metric], row.number]);
    const whole = [...rows.values()].filter((row) => point(row));
    const points = whole.filter((row) => row.feasible).map(point), broken = whole.filter((row) => !row.feasible).map(point);
    const set = front(points, x.sign, y.sign).sort((a, b) => a[0] - b[0]);
    pareto.show({x: {label: `${x.metric} (${x.better} is better)`}, y: {label: y.metric}, empty: NONE, series: [
      {name: 'complete', colour: '--dots', shape: 'dot', size: points.length > 500 ? 2 : 3, points},
      {name: 'breaks a constraint', colour: '--bad', shape: 'cross', size: 3, width: 1, points: broken},
      {name: 'Pareto set', colour: '--good', shape: 'dot', size: 5, line: 'straight', width: 1, dash: [3, 3], points: set},
      ...marked({sweep, rows}, point)]},
    `${set.length} of ${points.length} trials are in the Pareto set of ${y.metric} and ${x.metric}: ` +
      set.slice(0, 8).map((p) => `trial ${p[2]} ${num(p[1])} at ${num(p[0])}`).join(', '));
  }

  /** Loads the importance of the parameters. */
  async function weigh() {
    sharesNote.textContent = 'Computing. This takes seconds for thousands of trials.';
    const {metric, trials, shares: found} = await call(sweepPath(name, 'importance'), {signal});
    sharesNote.textContent = found.length
      ? `Share of the variance of ${metric} over ${trials} trials.` : 'More complete trials are needed.';
    shares.replaceChildren(...found.map(({name: parameter, share, spread}) => {
      const bar = h('div.bar', {});
      bar.style.width = `${Math.round(100 * share)}%`;
      return h('tr', {}, h('th', {scope: 'row'}, parameter),
        h('td.num', {}, `${Math.round(100 * share)} %${spread ? ` ± ${Math.round(100 * spread)}` : ''}`), h('td', {'aria-hidden': 'true'}, bar));
    }));
  }

  return {node, draw(sweep, known, selected) {
    last = {sweep, rows: known, selected}; // an imported trial is drawn if it is selected
    const rows = charted(sweep, known);
    const confirms = Boolean(sweep.confirms); // test results are not used to choose or to explain
    [progress, pareto, coordinates, importance].forEach((part) => {
      (part.node ?? part).hidden = confirms;
    });
    tasks.node.hidden = [...rows.values()].some((row) => row.n_tasks === 1);
    drawTasks();
    if (confirms) return;
    drawProgress(sweep, rows);
    drawCoordinates(sweep, rows, selected);
    drawPareto(sweep, rows);
    const {complete} = sweep.counts;
    if (complete && complete >= 1.1 * counted) { // this request is expensive for the service
      counted = complete;
      weigh().catch((error) => showError(problem, error));
    }
  }};
}
