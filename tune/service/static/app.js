// The page's frame: which view an address shows, the focus, the connection's state and the access token.
import {token} from './api.js';
import {comparePage} from './compare.js';
import {h} from './dom.js';
import {formPage} from './form.js';
import {sweepPage} from './sweep.js';
import {sweepsPage} from './sweeps.js';
import {errorPlace, showError} from './ui.js';

const main = document.getElementById('main');
const VIEWS = {'': sweepsPage, new: formPage, sweep: sweepPage, compare: comparePage};
const CONNECTION = {'': '', connecting: '○ connecting', live: '● live', reconnecting: '◌ reconnecting'};
let current = {key: null, leave: new AbortController()};

/** Shows the view of the address. A view that only changes its detail (a trial) is updated, not built again. */
function route() {
  const [path, query] = (location.hash.slice(1) || '/').split('?');
  const [page = '', name, , trial] = path.split('/').filter(Boolean).map(decodeURIComponent);
  const params = {name, trial: trial === undefined ? null : Number(trial), query: new URLSearchParams(query)};
  const key = page === 'sweep' ? `sweep/${name}` : location.hash;
  if (key === current.key) {
    current.update?.(params);
    return;
  }
  const first = current.key === null;
  current.leave.abort();
  const leave = new AbortController();
  setConnection('');
  current = {key, leave};
  const build = VIEWS[page] ?? missing;
  const root = h('div.view');
  main.replaceChildren(root);
  const problem = errorPlace();
  current.update = build(root, params, {signal: leave.signal, setConnection, fail: (error) => {
    if (!leave.signal.aborted) {
      if (!error.status) console.error(error); // a fault of this page, not a refusal by the service
      root.prepend(problem);
      showError(problem, error);
    }
  }});
  const heading = root.querySelector('h1');
  document.title = page ? `${heading.textContent} – Dynamos sweeps` : 'Dynamos sweeps';
  heading.tabIndex = -1;
  if (!first && params.trial === null) heading.focus(); // a first visit begins at the top, with the skip link
}

/** Shows the view of an unknown address. */
function missing(root) {
  root.append(h('h1', {}, 'Page not found'), h('p', {}, h('a', {href: '#/'}, 'All sweeps')));
}

/** Shows the state of the connection. */
function setConnection(state) {
  const place = document.getElementById('connection');
  place.textContent = CONNECTION[state];
  place.dataset.state = state;
}

let asked = null; // one question at a time, for all calls that wait
token.ask = () => {
  const form = document.getElementById('token'), input = document.getElementById('token-input');
  asked ??= new Promise((resolve) => {
    document.getElementById('token-note').textContent = token.get()
      ? 'The token was not accepted.' : 'The token is kept until you close this tab.';
    form.hidden = false;
    input.focus();
    form.onsubmit = (event) => {
      event.preventDefault();
      const given = input.value.trim();
      if (!/^[\x21-\x7e]+$/.test(given)) { // a header cannot carry it
        document.getElementById('token-note').textContent = 'A token has only ASCII characters and no spaces.';
        return;
      }
      token.set(given);
      input.value = '';
      form.hidden = true;
      main.focus();
      asked = null;
      resolve();
    };
  });
  return asked;
};

document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault(); // the hash is the view's address
  main.focus();
});
addEventListener('hashchange', route);
route();
