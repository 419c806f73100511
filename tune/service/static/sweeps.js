// The list of sweeps, live.
import {follow} from './api.js';
import {h, keyed, paced, region, select} from './dom.js';
import {bestText, countsText, ended, moment, stateText} from './text.js';

const STATES = ['starting', 'running', 'stopping', 'stopped', 'killed', 'finished'];

/** Shows all sweeps; returns nothing to update. */
export function sweepsPage(root, params, {signal, setConnection, fail}) {
  const sweeps = new Map(), chosen = new Set();
  const text = h('input', {type: 'search', id: 'filter-text', oninput: () => render()});
  const state = select({id: 'filter-state', onchange: () => render()}, [['', 'any'], ...STATES]);
  const compare = h('button', {type: 'button', test: 'compare-selected', disabled: true, onclick: () => {
    location.hash = `#/compare?sweeps=${[...chosen].map(encodeURIComponent).join(',')}`;
  }}, 'Compare selected');
  const body = h('tbody'), note = h('p', {}, 'Loading…');
  const headers = ['Compare', 'Sweep', 'State', 'Stream', 'Progress', 'Best', 'Trials', 'Started'];
  root.append(
    h('div.row.spread', {}, h('h1', {}, 'Sweeps'), h('a.button.primary', {href: '#/new', test: 'new-sweep'}, 'New sweep')),
    h('div.row', {role: 'search', 'aria-label': 'Sweeps'}, h('label', {for: 'filter-text'}, 'Filter'), text,
      h('label', {for: 'filter-state'}, 'State'), state, compare, h('span.hint', {}, 'Select two or more sweeps to compare.')),
    region('Sweeps', h('table', {}, h('caption.unseen', {}, 'Sweeps, newest first'),
      h('thead', {}, h('tr', {}, headers.map((name) => h('th', {scope: 'col'}, name)))), body)),
    note);

  const render = paced(() => {
    const wanted = text.value.toLowerCase();
    const rows = [...sweeps.values()]
      .filter((s) => (!state.value || s.state === state.value)
        && [s.name, s.stream, s.model, s.space, s.sampler].join(' ').toLowerCase().includes(wanted))
      .sort((a, b) => (b.started_at ?? '9').localeCompare(a.started_at ?? '9') || a.name.localeCompare(b.name));
    keyed(body, rows, (s) => s.name, row);
    compare.disabled = chosen.size < 2;
    note.textContent = sweeps.size ? `${rows.length} of ${sweeps.size} sweeps` : 'No sweeps yet. Use “New sweep” to start one.';
  }, signal, 250);

  /** One sweep's row. */
  function row(s) {
    return h('tr', {test: 'sweep-row'},
      h('td', {}, h('input', {type: 'checkbox', 'data-part': 'check', 'aria-label': `Compare ${s.name}`,
        checked: chosen.has(s.name), onchange: (event) => {
          chosen[event.target.checked ? 'add' : 'delete'](s.name);
          render();
        }})),
      h('th', {scope: 'row'}, h('a', {href: `#/sweep/${encodeURIComponent(s.name)}`, 'data-part': 'name'}, s.name),
        s.confirms && h('div.hint', {}, `confirms ${s.confirms}`)),
      h('td', {}, h('span.state', {'data-state': s.state, test: 'sweep-state'}, stateText(s.state)),
        s.error && h('div.hint', {}, s.error)),
      h('td.name', {}, s.stream, h('div.hint', {}, `buffer ${s.buffer_size}`)),
      h('td', {}, h('progress', {max: s.budget, value: ended(s), 'aria-label': `Ended trials of ${s.name}`, test: 'sweep-progress'}),
        h('div.hint', {}, `${ended(s)} of ${s.budget}`)),
      h('td.num', {test: 'best-value'}, bestText(s), h('div.hint', {}, s.objectives[0])),
      h('td', {}, countsText(s)), h('td', {}, moment(s.started_at)));
  }

  follow('events', {
    snapshot: (data) => {
      sweeps.clear();
      data.sweeps.forEach((s) => sweeps.set(s.name, s));
      chosen.forEach((name) => sweeps.has(name) || chosen.delete(name));
      render();
    },
    sweep: (s) => {
      sweeps.set(s.name, s);
      render();
    },
    removed: ({name}) => {
      sweeps.delete(name);
      chosen.delete(name);
      render();
    },
  }, signal, setConnection).catch(fail);
}
