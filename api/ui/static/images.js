import { get, post, query } from './api.js';
import { h, show, table, toast } from './dom.js';
import { bytes, sentence, shortDigest } from './format.js';
import { live } from './live.js';
import { moment, name } from './parts.js';

// Why images stay, in words, by the reason of the API.
const reasons = {
  container: 'a container has it', set: 'in a set', lease: 'leased', job: 'a job wants it', protect: 'protected by keep.protect', min_age: 'came or was used a short time ago',
  owner: 'Towline did not bring it', parent: 'an image was built from it', name: 'has a name by which it can’t be removed', failed: 'its last removal failed',
  not_needed: 'there is room enough', limit: 'the limit of one collection', no_disk: 'the disk of the engine is not known',
};
const causes = { high: 'the disk is fuller than keep.high', unused: 'it was not used for keep.max_unused', admission: 'a pull needs the room' };
// The details of these are sentences of their own.
const alone = ['min_age'];
const words = (kept) => kept.detail && alone.includes(kept.reason) ? kept.detail : (reasons[kept.reason] ?? kept.reason) + (kept.detail ? ': ' + kept.detail : '');

/** imagesPage shows the engine's images, and why each is kept. */
export function imagesPage({ main, may, query: wanted }) {
  const abort = new AbortController();
  const search = h('input', { id: 'search', type: 'search', value: wanted.get('image') ?? '', spellcheck: 'false' });
  const form = h('form', { class: 'search', role: 'search' }, h('div', {}, h('label', { for: 'search' }, 'Part of a name'), search), h('button', { type: 'submit' }, 'Search'),
    may('admin') ? h('button', { type: 'button', onclick: plan }, 'Plan a collection') : null);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    location.hash = '#/images' + query({ image: search.value.trim() });
  });
  const planned = h('div', { role: 'status' });
  const found = h('div', { id: 'found', 'aria-busy': 'true' }, h('p', { class: 'empty' }, 'Loading …'));
  const more = h('button', { type: 'button', class: 'more', hidden: true }, 'Show more');
  const past = h('div');
  show(main, h('h1', {}, 'Images'), form, planned, found, more, past);

  const images = [];
  let cursor;
  async function load() {
    more.disabled = true;
    try {
      const page = await get('/v1/images' + query({ image: pattern(wanted.get('image')), limit: 100, cursor }), abort.signal);
      images.push(...page.images ?? []);
      cursor = page.next;
      show(found, list(images));
    } catch (problem) {
      if (abort.signal.aborted) return;
      if (images.length > 0) toast(problem.message);
      else show(found, h('p', { class: problem.status === 404 ? 'empty' : 'fault' }, problem.status === 404 ? 'This daemon does not list the images of its engine.' : problem.message));
    }
    found.removeAttribute('aria-busy');
    more.disabled = false;
    more.hidden = !cursor;
  }
  more.addEventListener('click', load);

  async function plan() {
    try {
      show(planned, planOf(await post('/v1/collections?dry_run=true')));
    } catch (problem) {
      toast(problem.message);
    }
  }
  async function history() {
    try {
      const page = await get('/v1/images/history?limit=20', abort.signal);
      show(past, page.events.length === 0 ? [] : [h('h2', {}, 'What became of images'), changes(page.events)]);
    } catch { /* it is shown with the next change */ }
  }
  live.addEventListener('image', history, { signal: abort.signal });
  load();
  history();
  return () => abort.abort();
}

// The API takes patterns. A part of a name is one of them.
function pattern(text) {
  return !text || /[*?]/.test(text) ? text : '*' + text + '*';
}

function list(images) {
  return table('Images of the engine', [['Image'], ['Digest'], ['Size', 'number'], ['Own size', 'number'], ['Owner'], ['Last used'], ['Kept because']], images.map((i) => [
    names(i), h('code', { title: i.digest ?? i.id }, shortDigest(i.digest ?? i.id)), bytes(i.size), bytes(i.unique_size), i.owner ?? '', moment(i.used_at),
    i.collectable ? h('span', { class: 'quiet' }, 'may be collected') : h('ul', { class: 'plain' }, (i.kept ?? []).map((k) => h('li', {}, words(k)))),
  ]), 'No image matches.');
}

const actions = { removed: 'was collected', missing: 'was removed by somebody else', restored: 'was pulled again' };

function changes(events) {
  return table('Collected, or removed by others; newest first', [['When'], ['Image'], ['What'], ['Freed', 'number'], ['Because']], events.map(({ time: at, image }) => [
    moment(at), names(image), actions[image.action] ?? image.action, bytes(image.freed), image.set ? 'it is in the set ' + image.set : causes[image.why] ?? image.why ?? '',
  ]), '');
}

function names(image) {
  const all = (image.names ?? []).filter((n) => !n.includes('@'));
  if (all.length === 0) all.push(...image.names ?? []);
  return all.length ? h('ul', { class: 'plain' }, all.map((n) => h('li', {}, name(n)))) : h('span', { class: 'quiet' }, 'no name');
}

function planOf(plan) {
  const disk = plan.disk_before && 'The disk has ' + bytes(plan.disk_before.free) + ' free of ' + bytes(plan.disk_before.total) +
    (plan.disk_after ? ', and would have ' + bytes(plan.disk_after.free) + '.' : '.');
  return [
    h('h2', {}, 'Plan'), h('p', {}, disk ?? 'The size of the disk is not known.'), plan.blocked ? h('p', { class: 'fault' }, sentence(plan.blocked)) : null,
    table('A collection would remove', [['Image'], ['Frees', 'number'], ['Why']], (plan.removed ?? []).map((r) => [names(r), bytes(r.freed), causes[r.why] ?? r.why ?? '']), 'A collection would remove nothing now.'),
  ];
}
