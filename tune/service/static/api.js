// Calls of the service: JSON, problem documents, the access token and the stream of events.

const PREFIX = 'api/v1/'; // relative, so that the page works below a proxy's path
const SILENCE = 40_000; // the server says something every 15 s; after this many ms the connection counts as dead

/** What the service refused, and why; `field` names the setting that is wrong, if one is. */
class Problem extends Error {
  constructor({detail, title, field, nearest}, status) {
    const hint = nearest && !detail?.includes(nearest) ? ` Did you mean ${nearest}?` : '';
    super((detail || title || `The service answered ${status}.`) + hint);
    Object.assign(this, {field, status});
  }
}

/** The token lives in sessionStorage only: it goes when the tab is closed. `ask` is set by the page. */
export const token = {
  get: () => sessionStorage.getItem('token'),
  set: (value) => sessionStorage.setItem('token', value),
  ask: async () => {},
};

/** The path of a sweep, and what lies below it. */
export const sweepPath = (name, ...rest) => ['sweeps', name, ...rest].map(encodeURIComponent).join('/');

/** The address of a path, for a plain link. */
export const address = (path) => PREFIX + path;

/** A response that is fine; asks for a token where one is wanted, and throws Problem for other refusals. */
async function request(path, {method = 'GET', body, signal, accept = '*/*'} = {}) {
  for (;;) {
    const headers = {Accept: accept};
    if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    const response = await fetch(PREFIX + path, {
      method, headers, signal, cache: 'no-store', body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (response.ok) return response;
    if (response.status !== 401) throw new Problem(await response.json().catch(() => ({})), response.status);
    await token.ask();
  }
}

/** The JSON or the text that the service answers. */
export async function call(path, options) {
  const response = await request(path, options);
  return response.headers.get('Content-Type')?.includes('json') ? response.json() : response.text();
}

/** POSTs a body of JSON. */
export const post = (path, body = {}) => call(path, {method: 'POST', body});

/** Saves what a path answers as a file; a plain link could not send the token. */
export async function download(path, filename) {
  const url = URL.createObjectURL(await (await request(path)).blob());
  Object.assign(document.createElement('a'), {href: url, download: filename}).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/**
 * Follows a stream of events until `signal` aborts: handlers[event](data). Connects again after 1, 2, 4 ... 30 s;
 * `onState` hears "connecting", "live" or "reconnecting". Throws only where trying again is pointless (for
 * instance, no such sweep).
 */
export async function follow(path, handlers, signal, onState) {
  let wait = 1000;
  onState('connecting');
  while (!signal.aborted) {
    try {
      await read(path, signal, (event, data) => {
        if (event === 'snapshot') {
          wait = 1000;
          onState('live');
        }
        handlers[event]?.(data);
      });
    } catch (error) {
      if (signal.aborted) return;
      if (error.status >= 400 && error.status < 500 && error.status !== 429) {
        onState('');
        throw error;
      }
    }
    if (signal.aborted) return;
    onState('reconnecting');
    await new Promise((resolve) => setTimeout(resolve, wait * (0.75 + Math.random() / 2)));
    wait = Math.min(2 * wait, 30_000);
  }
}

/** Reads one connection's server-sent events until it ends; EventSource could not send the token. */
async function read(path, signal, emit) {
  const dead = new AbortController();
  let watchdog;
  const alive = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => dead.abort(), SILENCE);
  };
  try {
    const response = await request(path, {signal: AbortSignal.any([signal, dead.signal]), accept: 'text/event-stream'});
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let pending = '', event = 'message', data = [];
    for (;;) {
      alive();
      const {value, done} = await reader.read();
      if (done) return;
      pending += value;
      if (!value.includes('\n')) continue; // a snapshot's one long line comes in many pieces
      const lines = pending.split('\n');
      pending = lines.pop();
      for (const line of lines.map((text) => text.replace(/\r$/, ''))) {
        if (line.startsWith('event:')) event = line.slice(6).trim();
        else if (line.startsWith('data:')) data.push(line.slice(5));
        else if (!line) {
          if (data.length) emit(event, JSON.parse(data.join('\n')));
          [event, data] = ['message', []];
        }
      }
    }
  } finally {
    clearTimeout(watchdog);
  }
}
