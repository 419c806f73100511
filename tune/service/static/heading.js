// The top of a sweep's page: its state, its best trial and its actions.
import {address, call, download, post, sweepPath, token} from './api.js';
import {h, put, select} from './dom.js';
import {chosenText, countsText, duration, ended, moment, objective, stateText} from './text.js';
import {action, announce, ask, copyButton, errorPlace, showError} from './ui.js';

const RESUMABLE = ['stopped', 'killed'], AT_WORK = ['starting', 'running', 'stopping'];
const QUIET = 15_000; // ms between two announcements of progress

/** The heading's node. show(sweep) updates it in place, so that the focus stays. */
export function heading(name) {
  const title = h('h1', {}, name), state = h('span.state', {test: 'sweep-state', hidden: true});
  const progress = h('progress', {test: 'sweep-progress', 'aria-label': 'Ended trials', value: 0});
  const count = h('span'), best = h('strong', {test: 'best-value'}), kind = h('p.hint'), answer = h('p.answer', {hidden: true});
  const notes = h('p.hint', {hidden: true}), error = h('p.error', {hidden: true}), health = h('ul.cautions', {hidden: true, test: 'health'});
  const labels = h('p', {hidden: true, test: 'sweep-labels'}), remark = h('p.remark', {hidden: true, test: 'sweep-note'});
  let latest = null; // the sweep as it was shown last
  const links = h('span.row'), problem = errorPlace('action-error'), path = (...rest) => sweepPath(name, ...rest);
  const more = h('input.short', {type: 'number', min: 1, value: 10, id: 'extend-by'});

  const stop = action('Stop…', problem, async () => {
    const note = h('p', {}, 'Running trials are interrupted. Resume continues them from their last finished task.');
    if (await ask(`Stop ${name}?`, [note], 'Stop the sweep')) show(await post(path('stop')));
  }, {test: 'stop-sweep'});
  const resume = action('Resume', problem, async () => show(await post(path('resume'))), {test: 'resume-sweep'});
  const extend = action('Add trials', problem, async () => show(await post(path('extend'), {trials: entered(more, 'Trials to add')})),
    {test: 'extend-sweep'});
  const confirm = action('Confirm…', problem, async () => {
    const seeds = h('input', {type: 'number', min: 1, value: 5, id: 'confirm-seeds'});
    const top = h('input', {type: 'number', min: 1, value: 3, id: 'confirm-top'});
    const baseline = select({id: 'confirm-baseline'}, [['', "the sweep's trial 0"], ['preset', 'the preset of the stream']]);
    const choose = chooser('confirm-choose'), compute = h('input', {type: 'number', min: 0, step: 'any', id: 'confirm-compute'});
    if (!await ask(`Confirm the choice of ${name}`, [h('p', {}, 'Trains the choice and a baseline again on fresh seeds and tests each network once.'),
      field(seeds, 'Fresh seeds'), field(top, 'Candidates'), field(baseline, 'Baseline'), field(choose, 'Choose'), field(compute, 'At most this compute (optional)')],
    'Start the confirmation')) return;
    const made = await post(path('confirm'), {seeds: entered(seeds, 'Fresh seeds'), top: entered(top, 'Candidates'), choose: choose.value,
      max_compute: compute.value === '' ? null : Number(compute.value), baseline: baseline.value || null});
    location.hash = `#/sweep/${encodeURIComponent(made.name)}`;
  }, {test: 'confirm-sweep'});
  const further = async (what) => {
    const made = await post(path('confirm'), {[what]: entered(again, 'Seeds or class orders to add')});
    location.hash = `#/sweep/${encodeURIComponent(made.name)}`;
  };
  const again = h('input.short', {type: 'number', min: 1, value: 10, id: 'further-by'});
  const adding = h('span.row.group', {hidden: true}, h('label', {for: 'further-by'}, 'Seeds or class orders to add'), again,
    action('Add seeds', problem, () => further('extend'), {test: 'extend-confirmation'}),
    action('Add class orders', problem, () => further('class_orders'), {test: 'add-class-orders'}));
  const edit = action('Edit tags and note…', problem, async () => {
    const before = latest.tags, wrong = errorPlace('edit-error');
    const tags = h('textarea', {id: 'edit-tags', rows: 4, 'aria-describedby': 'edit-hint', value: written(before)});
    const note = h('textarea', {id: 'edit-note', rows: 4, value: latest.note});
    const body = [field(tags, 'Tags', h('span.hint', {id: 'edit-hint'}, 'One NAME=VALUE per line.')), field(note, 'Note'), wrong];
    while (await ask(`Edit tags and note of ${name}`, body, 'Save')) {
      try {
        const kept = read(tags.value), removed = Object.keys(before).filter((tag) => !Object.hasOwn(kept, tag)).map((tag) => [tag, '']);
        show(await call(path(), {method: 'PATCH', body: {tags: {...Object.fromEntries(removed), ...kept}, note: note.value}}));
        announce('Saved.');
        return;
      } catch (error) { // asks again, with the same text
        showError(wrong, error);
      }
    }
  }, {test: 'edit-sweep'});
  const remove = action('Delete…', problem, async () => {
    const what = h('p', {}, `The sweep ${name}, its files and its MLflow runs will be deleted permanently.`);
    if (!await ask(`Delete ${name}?`, [what], `Delete ${name}`, {cautious: true})) return;
    await call(path(), {method: 'DELETE'});
    announce(`${name} was deleted.`);
    location.hash = '#/';
  }, {test: 'delete-sweep'});
  const report = h('a.button', {href: address(path('report')), target: '_blank', rel: 'noopener', test: 'report-link', onclick: (event) => {
    if (!token.get()) return; // a plain link cannot send the token, and in a blob: page this page's CSP would block the styles
    event.preventDefault();
    download(path('report'), `${name}.html`).catch((e) => put(problem, e.message));
  }}, 'Report');
  const extending = h('span.row.group', {}, h('label', {for: 'extend-by'}, 'Trials to add'), more, extend);
  const lead = h('span', {}, 'best ', best), link = () => `${location.href.split('#')[0]}#/sweep/${encodeURIComponent(name)}`;
  const node = h('section', {'aria-label': 'Sweep'}, h('div.row', {}, title, state), kind,
    h('div.row', {}, progress, count, lead), error, health, answer, labels, remark, notes,
    h('div.row', {}, stop, resume, extending, adding, confirm, report, copyButton('Copy link', link), edit, remove, links), problem);

  let said = {at: 0, state: null, ended: -1};
  /** Announces a change of state at once, and progress from time to time. */
  function say(s) {
    const news = s.state !== said.state || (ended(s) !== said.ended && Date.now() - said.at > QUIET);
    if (!news) return;
    if (said.state) announce(`${name} is ${s.state}: ${ended(s)} of ${s.budget} trials ended, best ${chosenText(s)}.`);
    said = {at: Date.now(), state: s.state, ended: ended(s)};
  }

  /** Shows the present state of a sweep. */
  function show(s) {
    latest = s;
    put(labels, Object.keys(s.tags).length ? `Tags: ${written(s.tags).replaceAll('\n', ', ')}` : '');
    put(remark, s.note);
    put(state, stateText(s.state));
    state.dataset.state = s.state;
    put(kind, `${s.stream}, buffer ${s.buffer_size}, model ${s.model}, space ${s.space}, ${s.objectives.join(' and ')}` +
      `${s.constraints.length ? `, ${s.constraints.join(', ')}` : ''}, ${s.protocol}${s.publishable ? '' : ' (not publishable)'}, ` +
      `${s.sampler}, pruner ${s.pruner}, seeds ${s.seeds}${s.confirms ? `, confirms ${s.confirms}` : ''}`);
    progress.max = s.budget;
    progress.value = ended(s);
    put(count, `${ended(s)} of ${s.budget} trials ended (${countsText(s)})`);
    put(best, `${chosenText(s)}, ${objective(s.objectives[0]).metric}`);
    put(error, s.error ? `The last session failed: ${s.error}` : '');
    put(answer, s.answer ?? '');
    put(notes, [s.confirms ? '' : `Space ${s.space}: ${s.searched}.`, s.expected, s.ranking, `CPU time ${duration(s.cpu_seconds)}${s.gpu_seconds ? `, GPU time ${duration(s.gpu_seconds)}` : ''}.`,
      `Started ${moment(s.started_at)}${s.ended_at ? `, ended ${moment(s.ended_at)}` : ''}${s.driver ? `, on ${s.driver}` : ''}.`]
      .filter(Boolean).join(' '));
    health.replaceChildren(
      ...s.health.map((found) => h('li', {}, found.text, ' ', h('strong', {}, 'Next: '), found.next_step.replaceAll('`', ''))),
      ...s.notes.map((text) => h('li', {}, text)));
    health.hidden = !health.children.length;
    const had = document.activeElement;
    stop.hidden = s.state !== 'running';
    resume.hidden = !RESUMABLE.includes(s.state);
    confirm.hidden = !s.best;
    adding.hidden = !s.confirms || s.state !== 'finished';
    remove.hidden = AT_WORK.includes(s.state);
    [lead, extending, report].forEach((part) => { // a confirmation chooses nothing
      part.hidden = Boolean(s.confirms);
    });
    if (had.hidden) title.focus(); // the button that was used is hidden now
    const urls = Object.entries({MLflow: s.links.mlflow, Ray: s.links.ray}).filter(([, url]) => /^https?:/.test(url ?? ''));
    if (links.children.length !== urls.length) {
      links.replaceChildren(...urls.map(([text, href]) => h('a.button', {href, target: '_blank', rel: 'noopener'}, text)));
    }
    say(s);
  }
  return {node, show};
}

/** The whole number that was entered; raises an error that the browser words if there is none. */
function entered(input, what) {
  if (input.value === '' || !input.checkValidity()) {
    throw new Error(`${what}: ${input.validationMessage || 'enter a number.'}`);
  }
  return Number(input.value);
}

/** An input under its label, with a hint. */
const field = (input, text, ...hint) => h('p.field', {}, h('label', {for: input.id}, text), ...hint, input);

/** Tags as lines of NAME=VALUE. */
const written = (tags) => Object.entries(tags).map((tag) => tag.join('=')).join('\n');

/** The tags in lines of NAME=VALUE. */
function read(text) {
  return Object.fromEntries(text.split('\n').map((line) => line.trim()).filter(Boolean).map((line) => {
    const [tag, ...rest] = line.split('=');
    if (!rest.length) throw new Error(`${line} is not a tag; write NAME=VALUE.`);
    return [tag.trim(), rest.join('=').trim()];
  }));
}

/** The rule that chooses the configuration. */
export const chooser = (id) => select({id}, [['model', 'the best value expected by a model'], ['best', 'the best value'], ['one-se', 'the least compute within one standard error']]);
