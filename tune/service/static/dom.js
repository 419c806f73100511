// Builds and updates DOM nodes. Text always goes in as text, never as markup.

/** An element: h('td.num', {title: 'x', onclick: f}, child, ...). `test` is its data-testid. Empty children are left out. */
export function h(spec, props = {}, ...children) {
  const [tag, ...classes] = spec.split('.');
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(' ');
  for (const [name, value] of Object.entries(props)) {
    if (value == null || value === false || name === 'value') continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name === 'test' ? 'data-testid' : name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false && child !== ''));
  if (props.value != null) node.value = props.value; // after the options of a select were added
  return node;
}

/** A select of [value, text] pairs or plain values. */
export const select = (props, choices = []) =>
  h('select', props, choices.map((c) => (Array.isArray(c) ? h('option', {value: c[0]}, c[1]) : h('option', {value: c}, c))));

/** A part that scrolls separately and can be reached by keyboard. */
export const region = (label, ...children) =>
  h('div.scroll', {role: 'region', tabindex: 0, 'aria-label': label}, ...children);

/** A table of header texts and rows of cells; the first cell of a row is its header. */
export function table(caption, headers, rows) {
  return region(caption, h('table', {}, h('caption', {}, caption),
    h('thead', {}, h('tr', {}, headers.map((text) => h('th', {scope: 'col'}, text)))),
    h('tbody', {}, rows.map(([first, ...rest]) =>
      h('tr', {}, h('th', {scope: 'row'}, first), rest.map((cell) => h('td', {}, cell)))))));
}

/** Updates the rows of `parent` to `items`. Replaces only cells that changed, so that no click or focus is lost. */
export function keyed(parent, items, key, build) {
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const place = focused && [focused.closest('[data-key]').dataset.key, focused.dataset.part];
  items.forEach((item, i) => {
    const id = String(key(item)), seen = JSON.stringify(item);
    let node = old.get(id);
    old.delete(id);
    if (!node) {
      node = build(item);
      node.dataset.key = id;
    } else if (node.seen !== seen) {
      [...build(item).children].forEach((cell, c) => node.children[c].isEqualNode(cell) || node.children[c].replaceWith(cell));
    }
    node.seen = seen;
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
  });
  old.forEach((node) => node.remove());
  if (focused && document.activeElement !== focused) {
    const row = [...parent.children].find((node) => node.dataset.key === place[0]);
    row?.querySelector(`[data-part="${place[1]}"]`)?.focus({preventScroll: true});
  }
}

/** A function that runs `work` in an animation frame, at most once per `ms`, and never after `signal` aborts. */
export function paced(work, signal, ms = 1000) {
  let last = -Infinity, waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => requestAnimationFrame(() => {
      waiting = false;
      last = performance.now();
      if (!signal.aborted) work();
    }), Math.max(0, last + ms - performance.now()));
  };
}

/** Sets the text of `node` only if it changed, so that a selection or a screen reader is not disturbed. */
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
  node.hidden = !text;
}
