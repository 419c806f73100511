// The best configuration, in the chosen format.
import {call, sweepPath} from './api.js';
import {h} from './dom.js';
import {chooser} from './heading.js';
import {copyButton, errorPlace, showError} from './ui.js';

/** The part's node. show(sweep) loads it again if another trial is chosen. */
export function bestPart(name, {signal}) {
  const choose = chooser('best-choose'), compute = h('input.short', {type: 'number', min: 0, step: 'any', id: 'best-compute'});
  const code = h('pre', {tabindex: 0, role: 'region', 'aria-label': 'Best configuration', test: 'best-config'}, 'No complete trial yet.');
  const problem = errorPlace(), note = h('p.hint', {});
  const forms = h('fieldset.tabs', {}, h('legend.unseen', {}, 'Format'), ['yaml', 'json', 'args', 'command'].map((text, i) =>
    h('label', {}, h('input', {type: 'radio', name: 'best-format', value: text, checked: i === 0}), text)));
  const node = h('section', {}, h('h2', {}, 'Best configuration'), h('div.row', {}, forms,
    h('label', {for: 'best-choose'}, 'Choose'), choose, h('label', {for: 'best-compute'}, 'at most this compute'), compute,
    copyButton('Copy', () => code.textContent)), problem, note, code);
  let shown = null;

  async function load() {
    const format = forms.querySelector('input:checked').value;
    const query = new URLSearchParams({choose: choose.value, format});
    if (compute.value !== '') query.set('max_compute', compute.value);
    try {
      const path = sweepPath(name, 'best'), answer = await call(`${path}?${query}`, {signal});
      query.set('format', 'json');
      note.textContent = (await call(`${path}?${query}`, {signal})).note;
      code.textContent = typeof answer === 'string' ? answer : JSON.stringify(answer.config, null, 2);
      showError(problem, null);
    } catch (error) {
      showError(problem, error);
    }
  }
  [forms, choose, compute].forEach((input) => input.addEventListener('change', load));
  return {node, show(sweep) {
    const now = JSON.stringify(sweep.chosen);
    if (!sweep.chosen || now === shown) return;
    shown = now;
    load();
  }};
}
