// Text of numbers, states and values.

const SYMBOLS = {
  starting: '…', running: '▶', stopping: '…', stopped: '■', killed: '✕', finished: '✓',
  WAITING: '…', RUNNING: '▶', INTERRUPTED: '‖', COMPLETE: '✓', PRUNED: '✂', FAIL: '✕',
};
const UNITS = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];

/** A number with four digits. */
export function num(x) {
  if (x == null) return '–';
  if (Number.isInteger(x)) return String(x);
  return Math.abs(x) >= 1e-3 && Math.abs(x) < 1e6 ? String(+x.toPrecision(4)) : x.toExponential(2);
}

/** Any value of a configuration or a table. */
export function shown(value) {
  if (value == null) return '–';
  if (typeof value === 'number') return num(value);
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** Seconds in the largest unit that is at least one. */
export function duration(seconds) {
  if (seconds == null) return '–';
  const [size, unit] = UNITS.find(([s]) => seconds >= s) ?? [1, 's'];
  return `${+(seconds / size).toPrecision(3)} ${unit}`;
}

/** A moment in the reader's own time zone. */
export const moment = (iso) => (iso ? new Date(iso).toLocaleString([], {dateStyle: 'medium', timeStyle: 'short'}) : '–');

/** A state as a word with a symbol, so that colour is never the only sign. */
export const stateText = (state) => `${SYMBOLS[state] ?? ''} ${state.toLowerCase()}`;

/** The parts of an objective such as "val_class_il:max". */
export function objective(text) {
  const [metric, direction] = text.split(':');
  return {metric, sign: direction === 'min' ? -1 : 1, better: direction === 'min' ? 'lower' : 'higher'};
}

/** Number of ended trials of a sweep. */
export const ended = ({counts}) => counts.complete + counts.pruned + counts.fail;

/** The counts of trials by state that are not zero. */
export const countsText = ({counts}) =>
  Object.entries(counts).filter(([, n]) => n).map(([state, n]) => `${n} ${state}`).join(', ') || 'none yet';

/** The best value of a sweep, with its spread over seeds, its trial and the verdict of a confirmation. */
export function bestText({best, verdict}) {
  if (!best) return '–';
  const spread = best.spread == null ? '' : ` ± ${num(best.spread)}`;
  return `${num(best.value)}${spread} (trial ${best.number})${verdict ? `, ${verdict} on test images` : ''}`;
}

/** What a model expects of the trial that a sweep chooses; without a model, the best value. */
export function chosenText({chosen, best, verdict}) {
  if (chosen?.expected == null) return bestText({best, verdict});
  return `${num(chosen.expected)} ± ${num(chosen.sd)} expected, ${num(chosen.value)} observed (trial ${chosen.number})` +
    (verdict ? `, ${verdict} on test images` : '');
}

/** A text converted to the type of its field. A text that is not a number stays a text; the service refuses it. */
export function typed(text, type) {
  if (type === 'bool') return text === 'true' ? true : text === 'false' ? false : text;
  return (type === 'int' || type === 'float') && text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
}
