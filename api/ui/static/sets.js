import { get, post } from './api.js';
import { h, show, table, toast } from './dom.js';
import { duration, time } from './format.js';
import { leaseSection } from './leases.js';
import { badge, moment, name } from './parts.js';

/** setsPage shows the sets with the state of their images, and the leases. */
export function setsPage({ main, may }) {
  const abort = new AbortController();
  const box = h('div', { 'aria-busy': 'true' }, h('p', { class: 'empty' }, 'Loading …'));
  const list = h('div');
  const faulty = h('div');
  const leases = leaseSection(may, abort.signal);
  show(main, h('h1', {}, 'Sets'), h('p', { class: 'quiet' }, 'Lists of images that this host is to have.'), box, leases.element);
  const rows = new Map();
  let timer;

  async function load() {
    try {
      const { sets, faults } = await get('/v1/sets', abort.signal);
      for (const known of rows.keys()) if (!sets?.some((s) => s.name === known)) rows.delete(known);
      const elements = (sets ?? []).map((s) => {
        if (!rows.has(s.name)) rows.set(s.name, setRow(s.name, may, abort.signal));
        const row = rows.get(s.name);
        row.update(s);
        return row.element;
      });
      // Elements stay in place, so that the keyboard's focus does.
      if (elements.length === 0 || elements.length !== list.children.length || elements.some((e, i) => list.children[i] !== e)) {
        show(list, elements.length ? elements : h('p', { class: 'empty' }, 'There is no set. Create one with ', h('code', {}, 'towline sets apply'), '.'));
      }
      show(faulty, (faults ?? []).map((f) => h('p', { class: 'fault' }, f.file + ': ' + f.error)));
      if (list.parentElement !== box) show(box, list, faulty);
    } catch (problem) {
      if (abort.signal.aborted) return;
      rows.clear();
      show(box, h('p', { class: problem.status === 404 ? 'empty' : 'fault' }, problem.status === 404 ? 'This daemon has no sets.' : problem.message));
    }
    box.removeAttribute('aria-busy');
    leases.load();
    timer = setTimeout(load, 10000);
  }
  load();
  return () => {
    abort.abort();
    clearTimeout(timer);
  };
}

// setRow is a set that changes. Its images are loaded when it is opened.
function setRow(set, may, signal) {
  const path = '/v1/sets/' + encodeURIComponent(set);
  const refresh = h('button', { type: 'button', 'aria-label': 'Refresh ' + set }, 'Refresh');
  refresh.addEventListener('click', async () => {
    refresh.disabled = true;
    try {
      location.hash = '#/jobs/' + (await post(path + '/refresh')).id;
    } catch (problem) {
      toast(problem.message);
      refresh.disabled = false;
    }
  });
  const about = h('div');
  const images = h('div');
  const details = h('details', {}, h('summary', {}, 'Images'), images);
  details.addEventListener('toggle', open);

  async function open() {
    if (!details.open) return;
    try {
      const now = await get(path, signal);
      show(images, table('Images of ' + set, [['State'], ['Image'], ['Checked'], ['Next run'], ['Note']], (now.images ?? []).map((i) => [
        badge(i.state), i.job ? h('a', { href: '#/jobs/' + i.job }, name(i.image)) : name(i.image), moment(i.checked_at), moment(i.next_run), i.reason ?? '',
      ]), 'No images.'));
    } catch (problem) {
      if (!signal.aborted) show(images, h('p', { class: 'fault' }, problem.message));
    }
  }

  return {
    element: h('section', { class: 'set' }, h('div', { class: 'line' }, h('h2', {}, set), may('pull') ? refresh : null), about, details),
    update(now) {
      refresh.disabled = now.refreshing === true;
      const facts = [now.schedule ? 'schedule ' + now.schedule : 'no schedule: pulls what is missing', now.window && 'window ' + now.window, now.jitter_seconds && 'jitter ' + duration(now.jitter_seconds),
        now.next_run && 'next run ' + time(now.next_run), now.last_run && 'last run ' + time(now.last_run), now.protect ? 'protected from collection' : 'not protected from collection',
        now.file && 'from ' + now.file];
      show(about, h('p', { class: 'line' }, Object.entries(now.counts ?? {}).filter(([, n]) => n > 0).map(([state, n]) => h('span', {}, badge(state), ' ' + n))),
        h('p', { class: 'quiet' }, facts.filter(Boolean).join(' · ')), now.job ? h('p', {}, h('a', { href: '#/jobs/' + now.job }, now.refreshing ? 'The refresh that runs' : 'The last refresh')) : null,
        now.error ? h('p', { class: 'fault' }, now.error) : null);
      open();
    },
  };
}
