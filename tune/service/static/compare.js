// Sweeps side by side.
import {call} from './api.js';
import {Chart, plot} from './charts.js';
import {h, select, table} from './dom.js';
import {num, shown} from './text.js';

const KINDS = {trials: 'ended trials', cpu_seconds: 'CPU seconds', gpu_seconds: 'GPU seconds'};
const LOOKS = [['--accent', []], ['--second', [8, 4]], ['--third', [2, 3]], ['--ink', [10, 3, 2, 3]]];

/** Shows GET /compare of the sweeps that the address names. */
export function comparePage(root, {query}, {signal, fail}) {
  const content = h('div', {}, 'Loading…');
  root.append(h('h1', {}, 'Compare sweeps'), content);
  call(`compare?${new URLSearchParams({sweeps: query.get('sweeps') ?? ''})}`, {signal}).then((found) => {
    const kinds = Object.keys(found.curves).filter((kind) => Object.values(found.curves[kind]).some((points) => points.length));
    const kind = select({id: 'kind', onchange: () => draw()}, kinds.map((key) => [key, KINDS[key] ?? key]));
    const chart = new Chart('Best so far', plot, {signal});
    const draw = () => {
      const curves = Object.entries(found.curves[kind.value] ?? {});
      chart.show({x: {label: KINDS[kind.value] ?? kind.value, low: 0}, y: {label: 'best value'}, series: curves.map(([name, points], i) => {
        const [colour, dash] = LOOKS[i % LOOKS.length];
        return {name, colour, dash, line: 'step', points};
      })}, curves.map(([name, points]) => (points.length
        ? `${name} reaches ${num(points.at(-1)[1])} after ${num(points.at(-1)[0])} ${KINDS[kind.value] ?? kind.value}`
        : `${name} has no complete trial`)).join('; '));
    };
    const part = (caption, rows) => rows.length
      && table(caption, ['Name', ...found.names], rows.map(([label, values]) => [label, ...values.map(shown)]));
    content.replaceChildren(...[...found.sentences.map((text) => h('p.answer', {}, text)),
      h('p.row', {}, 'Open ', found.names.map((name) => h('a', {href: `#/sweep/${encodeURIComponent(name)}`}, name))),
      kinds.length && h('p.row', {}, h('label', {for: 'kind'}, 'Best value by'), kind), kinds.length && chart.node,
      part('Settings', found.settings), part('Results', found.found), part('Parameters that differ between the best trials', found.shifted)].filter(Boolean));
    if (kinds.length) draw();
  }).catch((error) => {
    content.replaceChildren();
    fail(error);
  });
}
