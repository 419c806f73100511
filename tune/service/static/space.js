// The part of the form for the search space: the fields that vary and their ranges.
import {h, region, select} from './dom.js';
import {typed} from './text.js';

/** The editor: node, value() for the request's space, setPreset(value of a field) for the values of trial 0. */
export function spaceEditor({spaces, fields, defaults}, field) {
  const named = select({test: 'form-space', value: defaults.space}, Object.keys(spaces)), add = select({});
  const about = h('p.hint'), body = h('tbody'), rows = new Map(); // by field: {node, preset, read}
  const fixed = h('input', {autocomplete: 'off', oninput: () => touch()});
  const forbid = h('textarea', {rows: 2, spellcheck: 'false', oninput: () => touch()});
  let touched = false, presetOf = () => null;
  const touch = () => {
    touched = true;
  };

  /** A parameter's row. */
  function row(p) {
    const input = (label, value, props) => h('input', {value: value ?? '', 'aria-label': `${p.name} ${label}`, oninput: touch, ...props});
    const {type = 'float'} = fields[p.name] ?? {};
    const choices = p.choices && input('choices', p.choices.join(', '));
    const weights = p.choices && input('weights', p.weights?.join(', '), {placeholder: 'equal weights'});
    const [low, high, step, mean, sd] = ['low', 'high', 'step', 'mean', 'sd'].map((key) => input(key, p[key], {type: 'number', step: 'any'}));
    const log = h('input', {type: 'checkbox', checked: p.log, 'aria-label': `${p.name} logarithmic`, onchange: touch});
    const preset = h('td.num');
    const node = h('tr', {'data-field': `space.parameters.${p.name}`}, h('th', {scope: 'row', title: fields[p.name]?.help}, p.name, p.when && h('p.hint', {}, `if ${Object.entries(p.when).map(([key, values]) => `${key} is ${values.join(' or ')}`).join(' and ')}`)),
      choices ? [h('td', {colspan: 3}, choices), h('td', {colspan: 3}, weights)] : Object.entries({low, high, log, step, mean, sd}).map(([key, cell]) =>
        h('td', {'data-field': `space.parameters.${p.name}.${key}`}, cell)),
      preset, h('td', {}, h('button', {type: 'button', 'aria-label': `Remove ${p.name}`, onclick: () => {
        touch();
        rows.delete(p.name);
        node.remove();
        offer();
        add.focus();
      }}, 'Remove')));
    const number = (box) => (box.value === '' ? null : Number(box.value));
    const list = (box, kind) => box.value.split(',').map((text) => typed(text.trim(), kind)).filter((v) => v !== '');
    const given = (values) => Object.fromEntries(Object.entries(values).filter(([, box]) => box.value !== '').map(([key, box]) => [key, number(box)]));
    const when = p.when ? {when: p.when} : {};
    rows.set(p.name, {preset, read: () => (choices
      ? {choices: list(choices, type), ...(weights.value.trim() ? {weights: list(weights, 'float')} : {}), ...when}
      : {low: number(low), high: number(high), log: log.checked, ...given({step, mean, sd}), ...when})});
    body.append(node);
    preset.textContent = presetOf(p.name) ?? '–';
    return node;
  }

  /** The fields that may still be added. */
  function offer() {
    const left = Object.keys(fields).filter((key) => fields[key].searchable && !rows.has(key));
    add.replaceChildren(...left.map((key) => h('option', {value: key}, key)));
  }

  /** Loads the chosen space. */
  function load() {
    const chosen = spaces[named.value];
    about.textContent = chosen.description;
    forbid.value = chosen.forbid.join('\n');
    fixed.value = Object.entries(chosen.fixed).map(([key, value]) => `${key}=${value}`).join(', ');
    rows.clear();
    body.replaceChildren();
    chosen.parameters.forEach(row);
    touched = false;
    offer();
  }
  named.addEventListener('change', load);
  const more = h('button', {type: 'button', onclick: () => {
    const name = add.value, info = fields[name], value = presetOf(name);
    if (!info) return;
    const around = typeof value === 'number' && value ? [value / 3, value * 3].map((v) => +v.toPrecision(2)).sort((a, b) => a - b) : [null, null];
    const node = row({name, choices: info.type === 'bool' ? [true, false] : info.choices ?? (info.type === 'str' ? [value] : null),
      low: around[0], high: around[1], log: false});
    touch();
    offer();
    node.querySelector('input').focus();
  }}, 'Add parameter');
  load();

  const headers = ['Parameter', 'Low', 'High', 'Log', 'Step', 'Mean', 'SD', 'Preset', 'Remove'];
  const node = h('fieldset', {}, h('legend', {}, 'Space'), field('space', 'Start from', named), about,
    region('Parameters of the space', h('table.inputs', {}, h('caption.unseen', {}, 'Searched parameters; trial 0 uses the preset’s values'),
      h('thead', {}, h('tr', {}, headers.map((text) => h('th', {scope: 'col'}, text)))), body)),
    h('div.row', {}, h('label', {for: 'f-add'}, 'Add a field'), add, more),
    field('space.fixed', 'Fixed fields', fixed, 'Fields that every trial has at one value: nf=16, n_epochs=5.'),
    field('space.forbid', 'Forbidden', forbid, 'Combinations that no trial may have, one on each line: lr > 0.1 and beta > 3.'));
  add.id = 'f-add';
  return {node,
    value: () => (touched ? {name: `${named.value}-edited`, description: `${named.value}, edited`,
      forbid: forbid.value.split('\n').map((text) => text.trim()).filter(Boolean),
      parameters: Object.fromEntries([...rows].map(([key, {read}]) => [key, read()])),
      fixed: Object.fromEntries(fixed.value.split(',').filter((text) => text.trim()).map((text) => {
        const [key, ...rest] = text.split('=');
        return [key.trim(), typed(rest.join('=').trim(), fields[key.trim()]?.type)];
      }))} : named.value),
    setPreset(value) {
      presetOf = value;
      rows.forEach(({preset}, key) => {
        preset.textContent = value(key) ?? '–';
      });
    }};
}
