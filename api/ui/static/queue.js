import { get } from './api.js';
import { h, replace, show, table } from './dom.js';
import { time } from './format.js';
import { badge, name } from './parts.js';

// What a transfer waits for, in the words of the page.
const reasons = {
  cool_down: 'the cool-down of its registry',
  registry_limit: 'a slot of its registry',
  other_platform: 'another platform of the image',
  prewarm_limit: 'a slot for prewarms',
  slots: 'a slot',
};

/** queuePage shows which pulls fetch, which wait and for what, and the registries. */
export function queuePage({ main }) {
  const abort = new AbortController();
  const box = h('div', { 'aria-busy': 'true' }, h('p', { class: 'empty' }, 'Loading …'));
  show(main, h('h1', {}, 'Queue'), h('p', { class: 'quiet' }, 'Pulls of the engine. Jobs that want the same image share one.'), box);
  let timer;
  let shown; // the answer that the page shows

  async function load() {
    try {
      const state = await get('/v1/queue', abort.signal);
      const text = JSON.stringify(state);
      if (text !== shown) {
        replace(box, content(state));
        shown = text;
      }
    } catch (problem) {
      if (abort.signal.aborted) return;
      shown = undefined;
      show(box, h('p', { class: problem.status === 404 ? 'empty' : 'fault' }, problem.status === 404 ? 'This daemon does not tell of its queue.' : problem.message));
    }
    box.removeAttribute('aria-busy');
    timer = setTimeout(load, 3000);
  }
  load();
  return () => {
    abort.abort();
    clearTimeout(timer);
  };
}

function content(q) {
  const waiting = q.queued.high + q.queued.normal + q.queued.low;
  const facts = [
    ['Slots in use', q.fetching + ' of ' + q.slots],
    ['Only unpack', q.unpacking],
    ['Wait', waiting],
    ['By priority', 'high ' + q.queued.high + ' · normal ' + q.queued.normal + ' · low ' + q.queued.low],
  ];
  return [
    h('dl', { class: 'facts' }, facts.map(([term, value]) => h('div', {}, h('dt', {}, term), h('dd', {}, String(value))))),
    h('h2', {}, 'Registries'),
    table('Registries that a pull wants something of, and those in a cool-down', [['Registry'], ['In use', 'number'], ['Wait', 'number'], ['Cool-down']], q.registries.map((r) => [
      r.registry, r.fetching + ' of ' + q.per_registry, String(r.waiting),
      (r.cool_downs ?? []).length === 0 ? '' : h('div', {}, r.cool_downs.map((c) => h('div', {}, badge('cool-down'), (c.login ? ' pulls with a login' : ' pulls without a login') + ' wait until ' + time(c.until)))),
    ]), 'No pull wants anything of a registry now.'),
    h('h2', {}, 'Waiting'),
    table('Pulls that wait, in the order in which they came', [['Image'], ['Platform'], ['Priority'], ['Waits for']], q.waiting.map((w) => [
      h('a', { href: '#/jobs?image=' + encodeURIComponent(w.image) }, name(w.image)), w.platform ?? '', w.priority, (reasons[w.reason] ?? w.reason) + (w.until ? ', until ' + time(w.until) : ''),
    ]), 'No pull waits.'),
    waiting > q.waiting.length ? h('p', { class: 'quiet' }, (waiting - q.waiting.length) + ' more wait.') : null,
  ];
}
