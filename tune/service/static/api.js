// Calls of the service: JSON, problem documents, the access token and the stream of events.

const PREFIX = 'api/v1/'; // relative, so that the page works below a proxy's path
const SILENCE = 40_000; // ms without data after which a connection is dead; the server sends something every 15 s

/** A refusal by the service. `field` names the wrong setting, if there is one. */
class Problem extends Error {
  constructor({detail, title, field, nearest}, status) {
    const hint = nearest && !detail?.includes(nearest) ? ` Did you mean ${nearest}?` : '';
    super((detail || title || `The service answered ${status}.`) + hint);
    Object.assign(this, {field, status});
  }
}

/** The access token. It is kept in sessionStorage only, until the tab is closed. The page sets `ask`. */
export const token = {
  get: () => sessionStorage.getItem('token'),
  set: (value) => sessionStorage.setItem('token', value),
  ask: async () => {},
};

/** The path of a sweep, or of a part of it. */
export const sweepPath = (name, ...rest) => ['sweeps', name, ...rest].map(encodeURIComponent).join('/');

/** The address of a path, for a plain link. */
export const address = (path) => PREFIX + path;

/** Returns a successful response. Asks for a token if one is needed; throws Problem for other refusals. */
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

/** Returns the service's answer, as JSON or text. */
export async function call(path, options) {
  const response = await request(path, options);
  return response.headers.get('Content-Type')?.includes('json') ? response.json() : response.text();
}

/** POSTs a body of JSON. */
export const post = (path, body = {}) => call(path, {method: 'POST', body});

/** Saves the answer of a path as a file; a plain link cannot send the token. */
export async function download(path, filename) {
  const url = URL.createObjectURL(await (await request(path)).blob());
  Object.assign(document.createElement('a'), {href: url, download: filename}).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/**
 * Follows a stream of events until `signal` aborts: handlers[event](data). Connects again after 1, 2, 4 ... 30 s;
 * calls `onState` with "connecting", "live" or "reconnecting". Throws only if another try is pointless (for
 * instance, if the sweep does not exist).
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

/** Reads one connection's server-sent events until it ends; EventSource cannot send the token. */
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
      if (!value.includes('\n')) continue; // the long line of a snapshot arrives in many pieces
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
