// One sweep, live: heading, charts, trials, the open trial, the best configuration.
import {follow} from './api.js';
import {bestPart} from './best.js';
import {announce, copyable} from './ui.js';
import {h, paced} from './dom.js';
import {figures} from './figures.js';
import {heading} from './heading.js';
import {trialPanel} from './trial.js';
import {trialsTable} from './trials.js';

const LOG_EVERY = 5000; // ms; the log of a running trial grows between events

/** Shows a sweep; the returned function opens or closes a trial. */
export function sweepPage(root, {name, trial}, {signal, setConnection, fail}) {
  let sweep = null, selected = null;
  const rows = new Map();
  const top = heading(name), table = trialsTable(name, {signal}), panel = trialPanel(name, {signal}), best = bestPart(name, {signal});
  const charts = figures(name, {signal, pick: (number) => {
    location.hash = `#/sweep/${encodeURIComponent(name)}/trial/${number}`;
  }});
  const settings = h('details', {}, h('summary', {}, 'Settings and record'));
  settings.addEventListener('toggle', () => {
    if (settings.open && sweep) {
      settings.replaceChildren(settings.firstChild, copyable('Settings', JSON.stringify(sweep.config, null, 2)),
        copyable('Record', JSON.stringify({record: sweep.record, looks: sweep.looks}, null, 2)));
    }
  });
  root.append(top.node, charts.node, h('div.beside', {}, table.node, panel.node), best.node, settings);

  const draw = paced(() => {
    top.show(sweep);
    best.show(sweep);
    best.node.hidden = Boolean(sweep.confirms);
    charts.draw(sweep, rows, selected);
  }, signal);
  const page = paced(table.refresh, signal, 2000);
  const detail = paced(panel.refresh, signal, 2000);
  const timer = setInterval(() => rows.get(selected)?.state === 'RUNNING' && detail(), LOG_EVERY);
  signal.addEventListener('abort', () => clearInterval(timer));

  /** Applies changes. */
  function take(newer, changed) {
    sweep = newer ?? sweep;
    if (!sweep) return;
    changed.forEach((row) => rows.set(row.number, row));
    table.setSweep(sweep);
    if (changed.length) page();
    if (changed.some((row) => row.number === selected)) detail();
    draw();
  }
  follow(`events?sweep=${encodeURIComponent(name)}`, {
    snapshot: (data) => {
      rows.clear();
      take(data.sweep, data.trials);
      page();
    },
    sweep: (data) => take(data, []),
    trials: (data) => take(null, data.trials),
    removed: () => {
      announce(`${name} was deleted.`);
      location.hash = '#/';
    },
  }, signal, setConnection).catch(fail);

  function open({trial: number}) {
    selected = number;
    panel.open(number);
    table.mark(number);
    if (sweep) draw();
  }
  if (trial !== null) open({trial});
  return open;
}
