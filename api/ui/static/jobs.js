import { get, query } from './api.js';
import { h, replace, show, table, toast } from './dom.js';
import { imageCount, isOver, sourceName, took } from './format.js';
import { live } from './live.js';
import { badge, moment, name } from './parts.js';

/** jobsPage is the history: all jobs that are kept, newest first, with a search. */
export function jobsPage({ main, query: wanted }) {
  const abort = new AbortController();
  const image = h('input', { id: 'image', type: 'search', value: wanted.get('image') ?? '', placeholder: 'whole name, such as alpine:3.20', spellcheck: 'false' });
  const state = select('state', ['', 'queued', 'active', 'succeeded', 'failed', 'canceled'], wanted.get('state'));
  const kind = select('kind', ['', 'pull', 'run', 'prewarm'], wanted.get('kind'));
  const form = h('form', { class: 'search', role: 'search' },
    h('div', {}, h('label', { for: 'image' }, 'Image'), image),
    h('div', {}, h('label', { for: 'state' }, 'State'), state),
    h('div', {}, h('label', { for: 'kind' }, 'Kind'), kind),
    h('button', { type: 'submit' }, 'Search'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    location.hash = '#/jobs' + query({ image: image.value.trim(), state: state.value, kind: kind.value });
  });
  const found = h('div', { 'aria-busy': 'true' }, h('p', { class: 'empty' }, 'Loading …'));
  const more = h('button', { type: 'button', class: 'more', hidden: true }, 'Show more');
  show(main, h('h1', {}, 'History'), form, found, more);

  const jobs = [];
  let cursor;
  // A prewarm stands for its pulls, unless pulls are what is wanted.
  const folded = !wanted.get('image') && !wanted.get('kind');
  async function load() {
    more.disabled = true;
    try {
      const enough = jobs.length + 50;
      let pages = 0;
      do {
        const page = await get('/v1/jobs' + query({ image: wanted.get('image'), state: wanted.get('state'), kind: wanted.get('kind'), limit: pages ? 200 : 50, cursor }), abort.signal);
        jobs.push(...page.jobs.filter((job) => !folded || !job.parent));
        cursor = page.next;
      } while (cursor && jobs.length < enough && ++pages < 20);
      replace(found, list(jobs));
    } catch (problem) {
      if (abort.signal.aborted) return;
      if (jobs.length === 0) show(found, h('p', { class: 'fault' }, problem.message));
      else toast(problem.message);
    }
    found.removeAttribute('aria-busy');
    more.disabled = false;
    more.hidden = !cursor;
  }

  // What is listed as running must not stay so when it has ended.
  function update() {
    let changed = false;
    jobs.forEach((job, i) => {
      const now = live.jobs.get(job.id);
      if (!now || isOver(job) || now.state === job.state && now.phase === job.phase) return;
      jobs[i] = { ...now };
      changed = true;
    });
    if (changed) replace(found, list(jobs));
  }
  live.addEventListener('jobs', update, { signal: abort.signal });
  more.addEventListener('click', load);
  load();
  return () => abort.abort();
}

function list(jobs) {
  return table('Jobs, newest first', [['State'], ['Kind'], ['Image'], ['Created'], ['Time', 'number'], ['Result']], jobs.map((job) => [
    badge(job.state, job.phase), job.kind,
    h('a', { href: '#/jobs/' + job.id }, job.kind === 'prewarm' ? imageCount(job) : name(job.image)),
    moment(job.created_at), took(job), outcome(job),
  ]), 'No job matches.');
}

function outcome(job) {
  if (job.error) return job.error.kind;
  return job.result?.exit_code !== undefined ? 'exited with ' + job.result.exit_code : sourceName(job.result?.source) ?? '';
}

function select(id, values, chosen) {
  const element = h('select', { id }, values.map((v) => h('option', { value: v }, v || 'any')));
  if (values.includes(chosen)) element.value = chosen;
  return element;
}
