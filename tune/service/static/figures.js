// The charts of one sweep, drawn from its rows.
import {call, sweepPath} from './api.js';
import {Chart, parallel, plot, range} from './charts.js';
import {h} from './dom.js';
import {action, errorPlace, showError} from './ui.js';
import {num, objective, shown} from './text.js';

/** Trials that no shown trial beats on both axes; points are [x, y, id], signs say which way is better. */
function front(points, xSign, ySign) {
  const sorted = [...points].sort((a, b) => xSign * (b[0] - a[0]) || ySign * (b[1] - a[1]));
  let best = -Infinity;
  return sorted.filter((p) => ySign * p[1] > best && ((best = ySign * p[1]), true));
}

/** The figures' node; draw(sweep, rows, selected) redraws them. `pick` opens a trial. */
export function figures(name, {signal, pick}) {
  let hovered = null, timer = 0, last = null, counted = 0;
  const options = {signal, pick, hover: (id) => {
    clearTimeout(timer);
    timer = setTimeout(() => { // not for every point that the pointer crosses
      hovered = id;
      drawTasks();
    }, 150);
  }};
  const progress = new Chart('Best so far', plot, options);
  const coordinates = new Chart('Parameters and value', parallel,
    {...options, note: 'A line per complete trial, the better the more vivid; the thick line is the selected or the best trial.'});
  Object.entries({tabindex: 0, role: 'region', 'aria-label': 'Parameters and value, scrollable'})
    .forEach(([key, value]) => coordinates.box.setAttribute(key, value));
  coordinates.node.classList.add('wide');
  const pareto = new Chart('Trade-off', plot, options);
  const tasks = new Chart('After each task', plot, options);
  const shares = h('tbody'), sharesNote = h('p.hint', {}, 'Not computed yet.'), problem = errorPlace();
  const importance = h('figure', {}, h('figcaption', {}, h('h2', {}, 'Importance of parameters')), sharesNote,
    h('table.bars', {}, h('caption.unseen', {}, 'Share of the variation of the first objective'), h('thead.unseen', {}, h('tr', {},
      ['Parameter', 'Share', ''].map((text) => h('th', {scope: 'col'}, text || 'Bar')))), shares),
    problem, action('Compute again', problem, () => weigh()));
  const node = h('section.charts', {'aria-label': 'Charts'}, progress.node, tasks.node, pareto.node, importance, coordinates.node);

  const curves = new Map(); // what GET trial said of a trial as it stood
  /** A trial's metric after each task, fetched once for each state of the trial. */
  function curve(row, metric) {
    const key = [row.number, row.attempt, row.tasks_done, row.state].join();
    if (!curves.has(key)) {
      curves.set(key, {});
      call(sweepPath(name, 'trials', row.number), {signal}).then((trial) => {
        curves.set(key, trial.by_task);
        drawTasks();
      }).catch(() => {}); // the chart goes without that line
    }
    return (curves.get(key)[metric] ?? []).map((v, i) => [i + 1, v, row.number]).filter((p) => p[1] != null);
  }

  /** The per-task curves of the best, the selected and the hovered trial. */
  function drawTasks() {
    if (!last || signal.aborted) return;
    const {sweep, rows, selected} = last, {metric} = objective(sweep.objectives[0]);
    const looks = [['best', sweep.best?.number, '--accent', [], 'dot'], ['selected', selected, '--second', [8, 4], 'diamond'],
      ['pointed at', hovered, '--muted', [2, 3], 'dot']];
    const series = looks.filter(([, number]) => rows.has(number)).map(([who, number, colour, dash, shape]) => (
      {name: `${who} ${number}`, colour, dash, shape, line: 'straight', points: curve(rows.get(number), metric)}));
    tasks.show({x: {label: 'task', whole: true}, y: {label: metric}, series}, series.map(
      (s) => `trial ${s.name}: ${s.points.map((p) => num(p[1])).join(', ') || 'loading'}`).join('; ') || 'no trial yet');
  }

  /** Best so far over the trials in the order in which they ended. */
  function drawProgress(sweep, rows) {
    const {metric, sign, better} = objective(sweep.objectives[0]);
    const done = [...rows.values()].filter((row) => ['COMPLETE', 'PRUNED', 'FAIL'].includes(row.state))
      .sort((a, b) => (a.ended_at ?? '').localeCompare(b.ended_at ?? '') || a.number - b.number);
    const good = [], broken = [], best = [];
    let top = null;
    done.forEach((row, i) => {
      if (row.value == null) return;
      const point = [i + 1, row.value, row.number];
      if (row.feasible === false) broken.push(point);
      else {
        good.push(point);
        if (!top || sign * (row.value - top[1]) > 0) best.push(top = point);
      }
    });
    const line = top ? [...best, [done.length, top[1], top[2]]] : [];
    progress.show({x: {label: 'ended trials', low: 0, high: Math.max(done.length, 1), whole: true}, y: {label: metric}, series: [
      {name: 'trial', colour: '--dots', shape: 'dot', size: done.length > 500 ? 2 : 3, points: good},
      {name: 'breaks a constraint', colour: '--bad', shape: 'cross', size: 3, width: 1, points: broken},
      {name: 'best', colour: '--accent', line: 'step', points: line}]},
    top ? `${metric} ${num(top[1])} in trial ${top[2]}, ${better} is better, after ${done.length} ended trials of ${sweep.budget}; ` +
      `the first had ${num((good[0] ?? top)[1])}` : `no complete trial among ${done.length}`);
  }

  /** Parallel coordinates of the complete trials. */
  function drawCoordinates(sweep, rows, selected) {
    const {metric, sign} = objective(sweep.objectives[0]);
    const whole = [...rows.values()].filter((row) => row.value != null);
    const {low, high} = range(whole.map((row) => row.value));
    const axes = sweep.parameters.map((p) => {
      if (p.choices) return {label: p.name, choices: p.choices.map(String)};
      const values = whole.map((row) => row.config[p.name]).filter((v) => v != null); // imported ones may lie outside
      return {label: p.name, log: p.log, low: values.reduce((a, b) => Math.min(a, b), p.low),
        high: values.reduce((a, b) => Math.max(a, b), p.high)};
    });
    const known = whole.filter((row) => sweep.parameters.every((p) => row.config[p.name] != null));
    coordinates.canvas.style.minWidth = `${100 * (axes.length + 1)}px`;
    coordinates.show({axes: [...axes, {label: metric, low, high}], marked: rows.get(selected)?.value == null ? sweep.best?.number : selected, rows: known.map((row) => ({
      id: row.number, values: [...sweep.parameters.map((p) => row.config[p.name]), row.value],
      share: sign > 0 ? (row.value - low) / (high - low) : (high - row.value) / (high - low),
    }))}, `${known.length} complete trials over ${axes.map((a) => a.label).join(', ')}` + (sweep.best
      ? `; the best, trial ${sweep.best.number}, has ` + Object.entries(sweep.best.config).map(([k, v]) => `${k} ${shown(v)}`).join(', ') : ''));
  }

  /** The first objective against the second, or against compute. */
  function drawPareto(sweep, rows) {
    const y = objective(sweep.objectives[0]);
    const second = sweep.objectives[1] ?? ('compute' in sweep.metrics ? `compute:${sweep.metrics.compute}` : null);
    pareto.node.hidden = !second || y.metric === 'compute';
    if (pareto.node.hidden) return;
    const x = objective(second), points = [], broken = [];
    for (const row of rows.values()) {
      const across = row.metrics[x.metric];
      if (row.value != null && across != null) (row.feasible === false ? broken : points).push([across, row.value, row.number]);
    }
    const numbers = new Set(sweep.pareto);
    const set = sweep.objectives.length > 1 ? points.filter((p) => numbers.has(p[2])).sort((a, b) => a[0] - b[0])
      : front(points, x.sign, y.sign).sort((a, b) => a[0] - b[0]);
    pareto.show({x: {label: `${x.metric} (${x.better} is better)`}, y: {label: y.metric}, series: [
      {name: 'trial', colour: '--dots', shape: 'dot', size: points.length > 500 ? 2 : 3, points},
      {colour: '--bad', shape: 'cross', size: 3, width: 1, points: broken},
      {name: 'Pareto set', colour: '--accent', shape: 'diamond', size: 5, line: 'straight', width: 1, dash: [3, 3], points: set}]},
    `${set.length} of ${points.length} trials are in the Pareto set of ${y.metric} and ${x.metric}: ` +
      set.slice(0, 8).map((p) => `trial ${p[2]} ${num(p[1])} at ${num(p[0])}`).join(', '));
  }

  /** Asks which parameters mattered. */
  async function weigh() {
    sharesNote.textContent = 'Being computed; with thousands of trials that takes seconds.';
    const {metric, trials, shares: found} = await call(sweepPath(name, 'importance'), {signal});
    sharesNote.textContent = found.length
      ? `Share of the variation of ${metric}, ${trials} trials.` : 'Too early: it needs more complete trials.';
    shares.replaceChildren(...found.map(({name: parameter, share, spread}) => {
      const bar = h('div.bar', {});
      bar.style.width = `${Math.round(100 * share)}%`;
      return h('tr', {}, h('th', {scope: 'row'}, parameter),
        h('td.num', {}, `${Math.round(100 * share)} %${spread ? ` ± ${Math.round(100 * spread)}` : ''}`), h('td', {'aria-hidden': 'true'}, bar));
    }));
  }

  return {node, draw(sweep, rows, selected) {
    last = {sweep, rows, selected};
    drawProgress(sweep, rows);
    drawCoordinates(sweep, rows, selected);
    drawPareto(sweep, rows);
    drawTasks();
    const {complete} = sweep.counts;
    if (complete && complete >= 1.1 * counted) { // it costs the service something
      counted = complete;
      weigh().catch((error) => showError(problem, error));
    }
  }};
}
