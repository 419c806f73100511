// Helpers of several views: announcements, errors, questions, copying.
import {h} from './dom.js';

/** Announces a text to screen readers without moving the focus. */
export function announce(text) {
  document.getElementById('announce').textContent = text;
}

/** An empty place for errors that are read out as they appear. */
export const errorPlace = (test) => h('p.error', {role: 'alert', tabindex: -1, hidden: true, test});

/** Shows an error's message in its place, or clears it. An aborted call is not an error. */
export function showError(place, error) {
  if (error?.name === 'AbortError') return;
  place.textContent = error?.message ?? '';
  place.hidden = !error;
}

/** A button that runs `work`, is disabled meanwhile, and shows an error in `place`. */
export function action(text, place, work, props = {}) {
  const button = h('button', {type: 'button', ...props, onclick: async () => {
    if (button.ariaDisabled === 'true') return;
    button.ariaDisabled = 'true'; // not `disabled`, which would drop the focus
    showError(place, null);
    try {
      await work();
    } catch (error) {
      showError(place, error);
    } finally {
      button.ariaDisabled = 'false';
    }
  }}, text);
  return button;
}

/** Asks in a dialog and returns true if the answer was `yes`. A cautious question has the focus on Cancel. */
export function ask(title, body, yes, {cautious = false} = {}) {
  const dialog = h('dialog', {'aria-labelledby': 'ask-title'}, h('h2', {id: 'ask-title'}, title), ...body, h('p.row', {},
    h('button.primary', {type: 'button', test: 'dialog-yes', onclick: () => dialog.close('yes')}, yes),
    h('button', {type: 'button', autofocus: cautious, onclick: () => dialog.close('')}, 'Cancel')));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => {
    dialog.remove();
    resolve(dialog.returnValue === 'yes');
  }));
}

/** A button that copies the result of `text()`; works outside a secure context too. */
export function copyButton(label, text) {
  return h('button', {type: 'button', onclick: async () => {
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      const area = h('textarea.unseen', {value: text(), 'aria-hidden': 'true'});
      const before = document.activeElement;
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
      before?.focus();
    }
    announce('Copied.');
  }}, label);
}

/** A text to copy, under a heading. */
export const copyable = (title, text) => h('div', {},
  h('h3.row', {}, title, ' ', copyButton(`Copy ${title.toLowerCase()}`, () => text)),
  h('pre', {tabindex: 0, role: 'region', 'aria-label': title}, text));
