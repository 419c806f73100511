// The table of a sweep's trials: sorted, filtered and paged by the service, 50 at a time. The newest come first, because they are running.
import {call, download, post, sweepPath} from './api.js';
import {h, keyed, paced, region, select} from './dom.js';
import {duration, num, objective, shown, stateText} from './text.js';
import {action, announce, errorPlace, showError} from './ui.js';

const PAGE = 50;
const STATES = ['WAITING', 'RUNNING', 'INTERRUPTED', 'COMPLETE', 'PRUNED', 'FAIL'];

/** A button that stops one trial; its error appears in `problem`. */
export const stopTrial = (name, number, problem) => action('Stop', problem, () => post(sweepPath(name, 'trials', number, 'stop')),
  {test: 'stop-trial', 'data-part': 'stop', 'aria-label': `Stop trial ${number}`});

/** A metric of a trial. If the trial is not complete, its latest value, marked as not final. */
export function measured(row, metric) {
  const value = row.metrics[metric];
  if (row.state === 'COMPLETE' || value == null) return num(value);
  return h('span.so-far', {}, num(value), h('span.hint', {}, ` after ${row.tasks_done} of ${row.n_tasks} tasks`));
}

/** The table's node. refresh() loads the shown page again, mark(number) marks the open trial. */
export function trialsTable(name, {signal}) {
  let sort = 'number', order = 'desc', offset = 0, total = 0, marked = null, columns = null, asked = 0, aloud = false;
  const text = h('input', {type: 'search', id: 'trials-text', oninput: () => first()});
  const state = select({id: 'trials-state', onchange: () => first()}, [['', 'any'], ...STATES.map((s) => [s, s.toLowerCase()])]);
  const problem = errorPlace(), head = h('tr'), body = h('tbody'), where = h('span');
  const turn = (by) => () => {
    if (offset + by < 0 || offset + by >= total) return;
    offset += by;
    aloud = true;
    refresh();
  };
  const before = h('button', {type: 'button', onclick: turn(-PAGE)}, 'Previous');
  const after = h('button', {type: 'button', onclick: turn(PAGE)}, 'Next');
  const node = h('section', {}, h('h2', {}, 'Trials'),
    h('div.row', {role: 'search', 'aria-label': 'Trials'}, h('label', {for: 'trials-text'}, 'Filter'), text,
      h('label', {for: 'trials-state'}, 'State'), state,
      action('Download CSV', problem, () => download(path({format: 'csv'}), `${name}.csv`))),
    problem, region('Trials', h('table', {test: 'trials-table'}, h('caption.unseen', {}, `Trials of ${name}`), h('thead', {}, head), body)),
    h('div.row', {}, before, after, where));

  /** The address of the requested rows. */
  function path(more) {
    return `${sweepPath(name, 'trials')}?${new URLSearchParams({state: state.value, q: text.value.trim(), sort, order, ...more})}`;
  }

  const refresh = paced(async () => {
    const mine = asked += 1;
    try {
      const answer = await call(path({limit: PAGE, offset}), {signal});
      if (mine !== asked || !columns) return; // a later request is on its way
      ({total} = answer);
      if (offset && offset >= total) return first();
      keyed(body, answer.trials, (row) => row.number, line);
      where.textContent = total ? `${offset + 1} to ${offset + answer.trials.length} of ${total}` : 'No trials.';
      if (aloud) announce(where.textContent); // announce requested pages, not every new trial
      aloud = false;
      before.ariaDisabled = String(offset === 0);
      after.ariaDisabled = String(offset + PAGE >= total);
      showError(problem, null);
    } catch (error) {
      showError(problem, error);
    }
  }, signal, 300);
  const first = () => {
    offset = 0;
    aloud = true;
    refresh();
  };

  /** Sorts by a column, or reverses its order. */
  function sortBy(key) {
    order = key === sort && order === 'desc' ? 'asc' : 'desc';
    sort = key;
    for (const cell of head.children) cell.ariaSort = cell.dataset.sort === sort ? `${order}ending` : 'none';
    first();
  }

  /** The header, once the sweep's parameters and metrics are known. */
  function setSweep(sweep) {
    if (columns) return;
    const {metric} = objective(sweep.objectives[0]);
    const others = new Set([...sweep.objectives.slice(1).map((o) => objective(o).metric), ...'compute' in sweep.metrics ? ['compute'] : []]);
    others.delete(metric);
    columns = [['number', 'Trial'], ['state', 'State'], ['value', metric, (row) => measured(row, metric)],
      ...[...others].map((m) => [m, m, (row) => measured(row, m)]),
      ...sweep.parameters.map((p) => [p.name, p.name, (row) => shown(row.config[p.name])]),
      ['tasks_done', 'Tasks', (row) => num(row.tasks_done)], ['seconds', 'Time', (row) => duration(row.seconds)],
      ['source', 'Source', (row) => row.source]];
    head.replaceChildren(...columns.map(([key, label]) => h('th', {scope: 'col', 'data-sort': key,
      'aria-sort': key === sort ? 'descending' : 'none'}, h('button.sort', {type: 'button', onclick: () => sortBy(key)}, label))),
    h('th', {scope: 'col'}, 'Stop'));
    refresh();
  }

  /** One trial's row; a click anywhere in it opens the trial, as its link does. */
  function line(row) {
    const href = `#/sweep/${encodeURIComponent(name)}/trial/${row.number}`;
    const open = (event) => {
      if (!event.target.closest('a, button') && !String(getSelection())) location.hash = href;
    };
    return h('tr', {test: 'trial-row', 'aria-current': row.number === marked ? 'true' : null, onclick: open},
      h('th', {scope: 'row'}, h('a', {href, 'data-part': 'open', 'aria-label': `Trial ${row.number}`}, String(row.number))),
      h('td', {}, h('span.state', {'data-state': row.state}, stateText(row.state)), row.held && h('div.hint', {}, 'waits for its batch'),
        row.feasible === false && h('div.hint', {}, 'breaks a constraint'), row.reason && h('div.hint', {}, row.reason)),
      columns.slice(2).map(([, , cell]) => h('td.num', {}, cell(row))),
      h('td', {}, row.state === 'RUNNING' && stopTrial(name, row.number, problem)));
  }

  return {node, refresh, setSweep, mark(number) {
    const link = (key) => body.querySelector(`[data-key="${key}"]`);
    link(marked)?.removeAttribute('aria-current');
    link(number)?.setAttribute('aria-current', 'true');
    [marked, number] = [number, marked];
    if (marked === null) link(number)?.querySelector('a').focus(); // back to the row of the closed trial
  }};
}
