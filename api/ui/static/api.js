/** Problem is an answer that is an error. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || body?.title || 'The daemon answered ' + status + '.');
    this.status = status;
    this.kind = body?.kind;
  }
}

let unauthorized = () => {};

/** onUnauthorized sets what is called when the daemon does not know the caller. */
export function onUnauthorized(f) { unauthorized = f; }

/** call makes a request and returns the answer's JSON. */
export async function call(method, path, body, signal) {
  const options = { method, signal, headers: { Accept: 'application/json' }, credentials: 'same-origin' };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers['Content-Type'] = 'application/json';
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (fault) {
    if (signal?.aborted) throw fault;
    throw new Problem(0, { detail: 'The daemon does not answer.' });
  }
  const text = await answer.text();
  let content;
  try { content = text ? JSON.parse(text) : undefined; } catch { content = undefined; }
  if (!answer.ok) {
    if (answer.status === 401 && path !== '/v1/session') unauthorized();
    throw new Problem(answer.status, content);
  }
  return content;
}

export const get = (path, signal) => call('GET', path, undefined, signal);
export const post = (path, body) => call('POST', path, body ?? {});
export const remove = (path) => call('DELETE', path);

/** query writes parameters, without the empty ones. */
export function query(parameters) {
  const q = new URLSearchParams(Object.entries(parameters).filter(([, v]) => v !== '' && v !== undefined && v !== null));
  const text = q.toString();
  return text ? '?' + text : '';
}

const advices = {
  denied: 'The registry refused. Send credentials with the request, log the daemon’s user in with docker login, or add registries.credentials.',
  not_found: 'Check the name and the tag. A private image looks like this too at some registries. With the policy never, pull it first.',
  forbidden: 'A rule of this daemon forbids it. See rules in its configuration.',
  rate_limited: 'The registry limits the rate. Towline waits for the cool-down and tries again.',
  registry_unavailable: 'The registry did not answer. Check the network from this host, and try again.',
  engine_unavailable: 'The Docker engine did not answer. Check that it runs: systemctl status docker.',
  no_space: 'The disk of the engine is full. Remove images, or turn on collection (keep.collect).',
  platform_mismatch: 'The image has no build for this platform. Choose another platform.',
  corrupt: 'What the registry sent does not have its digest. A proxy in between may be at fault.',
  truncated: 'The pull ended early. Trying again is safe.',
  stalled: 'Nothing came for too long. Check the link to the registry.',
  timeout: 'The time limit of the job was reached. Give it a longer timeout.',
  overloaded: 'The daemon is at a limit. Try again later.',
};

/** advice says what to do about an error kind. */
export const advice = (kind) => advices[kind] ?? '';
