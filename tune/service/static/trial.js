// One trial: its parameters, its results per task and seed, and its errors.
import {call, sweepPath} from './api.js';
import {h, table} from './dom.js';
import {duration, moment, num, shown, stateText} from './text.js';
import {stopTrial} from './trials.js';
import {copyable, errorPlace, showError} from './ui.js';

/** The panel's node. open(number) shows a trial, open(null) closes it, refresh() loads it again. */
export function trialPanel(name, {signal}) {
  let number = null, shownText = '', stop = null;
  const title = h('h2', {tabindex: -1}), problem = errorPlace(), body = h('div');
  const tools = h('span.row', {}, h('a.button', {href: `#/sweep/${encodeURIComponent(name)}`}, 'Close'));
  const node = h('section.detail', {hidden: true, test: 'trial-detail', 'aria-label': 'Selected trial'},
    h('div.row.spread', {}, title, tools), problem, body);

  async function refresh() {
    if (number === null) return;
    const wanted = number;
    try {
      const trial = await call(sweepPath(name, 'trials', wanted), {signal});
      const text = JSON.stringify(trial);
      if (wanted !== number || text === shownText) return;
      shownText = text;
      if ((trial.state === 'RUNNING') !== Boolean(stop)) {
        stop?.remove();
        stop = trial.state === 'RUNNING' ? stopTrial(name, number, problem) : null;
        if (stop) tools.prepend(stop);
      }
      const focused = body.contains(document.activeElement);
      body.replaceChildren(...content(trial));
      if (focused) title.focus({preventScroll: true});
      showError(problem, null);
    } catch (error) {
      showError(problem, error);
    }
  }

  function open(wanted) {
    if (wanted === number) return;
    number = wanted;
    shownText = '';
    stop?.remove();
    stop = null;
    node.hidden = number === null;
    body.replaceChildren('Loading…');
    if (number === null) return;
    title.textContent = `Trial ${number}`;
    title.focus();
    refresh();
  }
  return {node, open, refresh};
}

/** All data of a trial. */
function content(trial) {
  const facts = [['State', stateText(trial.state)], ['Value', trial.value == null && trial.curve.length ? `${num(trial.curve.at(-1))} after ${trial.tasks_done} of ${trial.n_tasks} tasks, not final`
      : num(trial.value) + (trial.spread == null ? '' : ` ± ${num(trial.spread)}`)],
    ['Source', trial.source + (trial.imported ? ', imported' : '')], ['First seed', trial.seed], ['Attempt', trial.attempt], ['Tasks done', trial.tasks_done],
    ['Time', duration(trial.seconds)], ['CPU', duration(trial.cpu_seconds)], ['GPU', trial.gpu_seconds ? duration(trial.gpu_seconds) : null],
    ['Started', moment(trial.started_at)], ['Ended', moment(trial.ended_at)],
    ['Constraints', trial.feasible === null ? null : trial.feasible ? 'kept' : 'broken']].filter(([, value]) => value != null);
  return [
    trial.reason && h('p.error', {}, trial.reason),
    trial.warnings.length && h('ul.cautions', {}, trial.warnings.map((text) => h('li', {}, text))),
    h('dl.facts', {}, facts.map(([label, value]) => h('div', {}, h('dt', {}, label), h('dd', {}, String(value))))),
    table('Parameters', ['Parameter', 'Value'], Object.entries(trial.config).map(([key, value]) => [key, shown(value)])),
    results(trial),
    trial.traceback && copyable('Traceback', trial.traceback), trial.log && copyable('Log', trial.log),
    trial.command && copyable('Command', trial.command),
  ].filter(Boolean);
}

/** A row per metric and, with several seeds, per seed; a column per task. */
function results(trial) {
  const seeds = Object.entries(trial.results), metrics = Object.entries(trial.by_task);
  const most = Math.max(0, ...metrics.map(([, values]) => values.length));
  if (!most) return h('p.hint', {}, 'No task has ended yet.');
  const row = (metric, seed, values) => [metric, seed, ...Array.from({length: most}, (_, i) => num(values[i]))];
  return table('After each task', ['Metric', 'Seed', ...Array.from({length: most}, (_, i) => `Task ${i + 1}`)],
    metrics.flatMap(([metric, values]) => [
      row(metric, seeds.length > 1 ? 'mean' : seeds[0]?.[0] ?? '–', values),
      ...seeds.length > 1 ? seeds.map(([seed, tasks]) => row(metric, seed, tasks.map((task) => task.metrics[metric]))) : [],
    ]));
}
