// The form that starts a sweep, built from the answer of GET /options.
import {call, post} from './api.js';
import {h, select, table} from './dom.js';
import {spaceEditor} from './space.js';
import {shown, typed} from './text.js';
import {action, announce, errorPlace, showError} from './ui.js';

// Settings that are not a single number, name or flag: [key, label, kind, hint].
const LISTS = [['points', 'Points to try first', 'json', 'JSON list of configurations: [{field: value}, ...].'],
  ['report_on', 'Report on', 'json', 'JSON: fields that differ in the confirmed and exported configuration.']];
// Kind of input, by the type of a setting.
const KINDS = {int: 'number', float: 'number', bool: 'flag', str: 'text'};

/** A labelled input with a hint. Errors of `path` appear at it. */
function field(path, label, input, hint) {
  const id = `f-${path.replaceAll('.', '-')}`;
  input.id = id;
  if (hint) input.setAttribute('aria-describedby', `${id}-hint`);
  return h('div.field', {'data-field': path}, h('label', {for: id}, label), input, hint && h('p.hint', {id: `${id}-hint`}, hint));
}

/** Shows the form. */
export function formPage(root, params, {signal, fail}) {
  root.append(h('h1', {}, 'New sweep'));
  call('options', {signal}).then((options) => build(root, options)).catch(fail);
}

/** Fills the page with the form. */
function build(root, options) {
  const {streams, models, fields, presets, metrics, defaults, settings} = options;
  const readers = {}; // by key of the body: reads the input's value, undefined if it was not changed
  const problem = errorPlace('form-error'), suggestions = h('div', {'aria-live': 'polite'});
  const name = h('input', {required: true, pattern: '[A-Za-z0-9][A-Za-z0-9._\\-]*', autocomplete: 'off', test: 'form-name'});
  const stream = select({test: 'form-stream', value: defaults.dataset}, Object.keys(streams));
  const model = select({}, models);
  const buffer = h('input', {type: 'number', min: 0, list: 'buffer-sizes'}), sizes = h('datalist', {id: 'buffer-sizes'});
  const space = spaceEditor(options, field), overrides = new Map();

  /** The settings of a group, as `setting` takes them. */
  const ofGroup = (wanted) => Object.entries(settings).filter(([, {group}]) => group === wanted)
    .map(([key, {label, type, help, choices}]) => [key, label, choices ?? KINDS[type], choices ? null : help]);

  /** An input of a setting: [key, label, the names to choose from or the kind of the input, hint]. */
  function setting([key, label, kind, hint]) {
    const start = defaults[key] ?? null, choices = Array.isArray(kind) ? kind : null;
    let input;
    if (choices) input = select({value: start}, key === 'protocol' ? choices.map((k) => [k, `${k}: ${options.protocols[k]}`]) : choices);
    else if (kind === 'json') input = h('textarea', {rows: 2, spellcheck: 'false'});
    else if (kind === 'flag') input = h('input', {type: 'checkbox', checked: start === true});
    else input = h('input', {type: kind, step: 'any', value: start ?? '', test: key === 'trials' && 'form-trials'});
    const before = input.value;
    readers[key] = () => {
      if (kind === 'flag') return input.checked === (start === true) ? undefined : input.checked;
      if (input.value === before) return undefined;
      if (input.value === '') return null;
      return kind === 'number' ? Number(input.value) : kind === 'json' ? parsed(key, input.value) : input.value;
    };
    return field(key, label, input, hint);
  }

  const objectives = ['First objective', 'Second objective', 'Third objective'].map((label, i) => {
    const input = select({value: i ? '' : 'val_class_il:max'},
      [...i ? [['', 'none']] : [], ...Object.entries(metrics).map(([m, d]) => [`${m}:${d}`, `${m} (${d === 'max' ? 'higher' : 'lower'} is better)`])]);
    return [input, field(i ? `objectives.${i}` : 'objectives', label, input, i ? null : 'Decides which trial is best and which trials are pruned.')];
  });
  const labels = Object.fromEntries(Object.entries(settings).map(([key, {label}]) => [key, label]));
  const constraints = h('input', {placeholder: 'keep_fraction<=0.6'});

  /** An override of one TrainConfig field; its placeholder shows the preset's value. */
  function override([key, info]) {
    const choices = info.type === 'bool' ? ['true', 'false'] : info.choices;
    const input = choices ? select({}, [['', ''], ...choices]) : h('input', {inputmode: info.type === 'str' ? 'text' : 'decimal'});
    overrides.set(key, input);
    return field(`base.${key}`, key, input, info.help);
  }
  const groups = Map.groupBy(Object.entries(fields).filter(([key]) => !['dataset', 'buffer_size', 'model'].includes(key)), ([, info]) => info.group);

  /** Shows the buffer sizes that have a preset, and the preset's values, for the chosen stream and size. */
  function preset(event) {
    const known = streams[stream.value].buffer_sizes;
    if (event?.target !== buffer) buffer.value = known[0];
    sizes.replaceChildren(...known.map((size) => h('option', {value: size})));
    // Without a preset for this size, a sweep begins with the preset of the smallest buffer.
    const size = model.value === models[0] && known.includes(Number(buffer.value)) ? buffer.value : known[0];
    const value = (key) => presets[stream.value][size][key];
    for (const [key, input] of overrides) {
      const {follows} = fields[key], text = follows ? `follows ${labels[follows]}` : shown(value(key));
      if (input.options) input.options[0].textContent = follows ? text : `unchanged: ${text}`;
      else input.placeholder = text;
    }
    space.setPreset(value);
  }

  /** The request's body; throws {message, field} for text that is not JSON. */
  function body() {
    const base = {dataset: stream.value, buffer_size: Number(buffer.value), model: model.value};
    for (const [key, input] of overrides) if (input.value !== '') base[key] = typed(input.value, fields[key].type);
    const whole = {name: name.value.trim(), space: space.value(), base, objectives: objectives.map(([input]) => input.value).filter(Boolean),
      constraints: constraints.value.split(/[,;\s]+(?=[a-z_])/).map((text) => text.trim()).filter(Boolean)};
    for (const [key, read] of Object.entries(readers)) {
      const value = read();
      if (value !== undefined) whole[key] = value;
    }
    return whole;
  }

  /** Runs `work`; shows an error of the service beside the field that it names, or at the top. */
  const trying = (work) => async () => {
    form.querySelectorAll('.field-error').forEach((node) => node.remove());
    form.querySelectorAll('[aria-invalid]').forEach((node) => node.removeAttribute('aria-invalid'));
    try {
      await work();
    } catch (error) {
      blame(error);
    }
  };

  /** Shows an error at its field and moves the focus there. */
  function blame(error) {
    let path = error.field ?? '', at = null;
    const named = (wanted) => form.querySelector(`[data-field="${CSS.escape(wanted)}"]`);
    for (; path && !at; path = path.slice(0, Math.max(0, path.lastIndexOf('.')))) at = named(path) ?? named(`base.${path}`);
    const input = at?.querySelector('input, select, textarea');
    if (!input) {
      showError(problem, error);
      problem.focus();
      return;
    }
    const id = `${input.id || 'space'}-error`;
    for (let part = at.closest('details'); part; part = part.parentElement.closest('details')) part.open = true;
    (at.tagName === 'TR' ? at.firstChild : at).append(h('p.error.field-error', {role: 'alert', id, test: 'form-error'}, error.message));
    input.setAttribute('aria-invalid', 'true');
    input.setAttribute('aria-describedby', `${id} ${input.getAttribute('aria-describedby') ?? ''}`.trim());
    input.focus();
  }

  const check = action('Check', problem, trying(async () => {
    const {config, suggestions: found, notes} = await post('sweeps?dry_run=true', body());
    const keys = Object.keys(found[0]?.config ?? {});
    suggestions.replaceChildren(h('h2', {}, 'The settings are valid'),
      h('ul.cautions', {test: 'form-notes', hidden: !notes.length}, notes.map((text) => h('li', {}, text))),
      table('First trials of the sweep', ['Trial', 'Source', ...keys],
        found.map((s) => [String(s.number), s.source, ...keys.map((k) => shown(s.config[k]))])),
      h('details', {}, h('summary', {}, 'All settings'),
        h('pre', {tabindex: 0, role: 'region', 'aria-label': 'All settings'}, JSON.stringify(config, null, 2))));
    announce('The settings are valid.');
  }), {test: 'form-check'});
  const start = action('Start', problem, trying(async () => {
    const sweep = await post('sweeps', body());
    location.hash = `#/sweep/${encodeURIComponent(sweep.name)}`;
  }), {test: 'form-start', class: 'primary', type: 'submit'});

  const part = (title, ...inputs) => h('fieldset', {}, h('legend', {}, title), h('div.fields', {}, ...inputs));
  const folded = (title, list) => h('details', {}, h('summary', {}, title), h('div.fields', {}, list));
  const form = h('form', {'aria-label': 'New sweep', novalidate: true, onsubmit: (event) => event.preventDefault()}, problem,
    part('Sweep', field('name', 'Name', name, 'Letters, digits, dots, dashes and underscores.'), field('base.dataset', 'Stream', stream),
      field('base.buffer_size', 'Buffer size', buffer, 'Number of images kept for rehearsal.'), sizes, field('base.model', 'Model', model)),
    space.node,
    part('Goal', objectives.map(([, node]) => node), field('constraints', 'Constraints', constraints, 'Separate constraints by commas.')),
    part('Search', ofGroup('main').map(setting)), part('Limits (optional)', ofGroup('budgets').map(setting)),
    folded('Search details', [...ofGroup('search'), ...LISTS].map(setting)), folded('Resources', ofGroup('resources').map(setting)),
    h('details', {}, h('summary', {}, 'Other training settings'), [...groups].map(([group, list]) => part(group, list.map(override)))),
    h('div.row', {}, check, start), suggestions);
  stream.addEventListener('change', preset);
  buffer.addEventListener('input', preset);
  model.addEventListener('change', preset);
  root.append(form);
  preset();
}

/** Parses JSON from an input. */
function parsed(key, text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw Object.assign(new Error(`This is not valid JSON: ${error.message}`), {field: key});
  }
}
