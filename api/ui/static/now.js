import { post } from './api.js';
import { h, setText, show, toast } from './dom.js';
import { imageCount, isOver, share, sourceName, time, took } from './format.js';
import { live } from './live.js';
import { badge, bar, cancelButton, fault, figures, layerList, name } from './parts.js';

const shown = 200; // rows of each list

/** nowPage shows jobs that run, that wait, and that ended while the page was open. */
export function nowPage({ main, may }) {
  const rows = new Map();
  const lists = {
    active: section('Running', 'No job runs.'),
    queued: section('Waiting', 'No job waits.', h('a', { href: '#/queue' }, 'What pulls wait for')),
    ended: section('Ended', 'No job has ended since this page was opened.'),
  };
  show(main, h('h1', {}, 'Now'), may('pull') ? startForm() : null, Object.values(lists).map((l) => l.element));

  function update() {
    const groups = { active: [], queued: [], ended: [] };
    for (const job of live.jobs.values()) {
      if (job.parent && live.jobs.has(job.parent)) continue; // in its prewarm's row
      (groups[job.state] ?? groups.ended).push(job);
    }
    groups.active.sort((a, b) => a.id < b.id ? -1 : 1);
    groups.queued.sort((a, b) => a.id < b.id ? -1 : 1);
    groups.ended.sort((a, b) => (b.finished_at ?? '') < (a.finished_at ?? '') ? -1 : 1);
    const used = new Set();
    for (const [group, jobs] of Object.entries(groups)) {
      const elements = jobs.slice(0, shown).map((job) => {
        used.add(job.id);
        let row = rows.get(job.id);
        if (!row) rows.set(job.id, row = jobRow(job, may));
        row.update(job);
        return row.element;
      });
      lists[group].fill(elements, jobs.length);
    }
    for (const id of rows.keys()) if (!used.has(id)) rows.delete(id);
  }

  live.addEventListener('jobs', update);
  update();
  return () => live.removeEventListener('jobs', update);
}

function section(title, empty, link) {
  const count = h('span', { class: 'quiet' });
  const list = h('ul', { class: 'jobs' });
  const none = h('p', { class: 'empty' }, empty);
  const more = h('p', { class: 'quiet' });
  const note = link ? h('p', {}, link) : null;
  return {
    element: h('section', {}, h('h2', {}, title + ' ', count), none, list, more, note ?? ''),
    fill(elements, total) {
      setText(count, total ? String(total) : '');
      none.hidden = total > 0;
      if (note) note.hidden = total === 0;
      setText(more, total > elements.length ? (total - elements.length) + ' more are not shown. See History.' : '');
      elements.forEach((element, i) => { if (list.children[i] !== element) list.insertBefore(element, list.children[i] ?? null); });
      while (list.children.length > elements.length) list.lastElementChild.remove();
    },
  };
}

/** jobRow is a job, or a prewarm with the jobs in it, as one row that changes. */
function jobRow(job, may) {
  const label = job.kind === 'prewarm' ? 'prewarm of ' + imageCount(job) : job.image;
  const state = h('span', { class: 'state' });
  const progress = bar('Progress of ' + label);
  const text = h('span', { class: 'figures' });
  const trouble = h('div');
  const inside = h('div', { class: 'inside' });
  const layers = layerList();
  const children = new Map();
  const cancel = may(job.kind === 'run' ? 'run' : 'pull') ? cancelButton(job.id, label) : null;
  const details = h('details', {}, h('summary', {}, job.kind === 'prewarm' ? 'Images' : 'Layers'), inside);
  let latest = job;
  details.addEventListener('toggle', () => open());

  function open() {
    if (!details.open) return;
    if (latest.kind !== 'prewarm') {
      if (!inside.contains(layers.element)) show(inside, layers.element);
      layers.update(live.layers.get(latest.id));
      return;
    }
    for (const id of latest.children ?? []) {
      const child = live.jobs.get(id);
      if (!child) continue;
      let row = children.get(id);
      if (!row) {
        row = jobRow(child, () => false);
        children.set(id, row);
        inside.append(row.element);
      }
      row.update(child);
    }
  }

  const element = h('li', { class: 'job' },
    h('div', { class: 'line' }, state,
      h('a', { href: '#/jobs/' + job.id, class: 'title' }, job.kind === 'prewarm' ? label : name(job.image)), cancel),
    h('div', { class: 'line' }, progress.element, text), trouble, details);

  return {
    element,
    update(now) {
      latest = now;
      const key = now.state + now.phase;
      if (state.dataset.key !== key) {
        state.dataset.key = key;
        show(state, badge(now.state, now.phase));
        element.className = 'job ' + now.state;
        show(trouble, fault(now.error));
      }
      const ended = isOver(now);
      progress.element.hidden = ended || now.phase === 'running' || now.state === 'queued';
      if (cancel) cancel.hidden = ended;
      details.hidden = (ended || now.state === 'queued') && now.kind !== 'prewarm' || now.kind === 'run' && now.phase === 'running';
      progress.set(share(now.progress));
      setText(text, ended ? summary(now) : now.state === 'queued' ? 'waits since ' + time(now.created_at) : figures(now.progress));
      open();
    },
  };
}

function summary(job) {
  const r = job.result;
  if (!r) return '';
  return [sourceName(r.source), took(job), r.exit_code !== undefined ? 'exit code ' + r.exit_code : ''].filter(Boolean).join(' · ');
}

/** startForm pulls images. */
function startForm() {
  const images = h('input', { id: 'images', name: 'images', required: true, placeholder: 'alpine:3.20 ghcr.io/team/app:1.4', autocomplete: 'off', spellcheck: 'false' });
  const policy = h('select', { id: 'policy' }, ['missing', 'newer', 'always'].map((p) => h('option', {}, p)));
  const button = h('button', { type: 'submit', class: 'primary' }, 'Pull');
  const form = h('form', { class: 'start' },
    h('div', {}, h('label', { for: 'images' }, 'Images, separated by spaces'), images),
    h('div', {}, h('label', { for: 'policy' }, 'Policy'), policy), button);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const list = images.value.trim().split(/[\s,]+/).filter(Boolean);
    if (list.length === 0) return;
    button.disabled = true;
    try {
      if (list.length === 1) await post('/v1/pulls', { image: list[0], policy: policy.value });
      else await post('/v1/prewarms', { images: list, policy: policy.value });
      images.value = '';
    } catch (problem) {
      toast(problem.message);
    } finally {
      button.disabled = false;
    }
  });
  return form;
}
