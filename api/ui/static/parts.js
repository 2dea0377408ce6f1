import { advice, remove } from './api.js';
import { h, setText, toast } from './dom.js';
import { bytes, duration, share, shortName, time } from './format.js';

// A sign beside the word and the colour of each state.
const signs = { queued: '◌', active: '▶', succeeded: '✓', failed: '✕', canceled: '–', skipped: '–', present: '✓', stale: '◌', missing: '✕', pulling: '▶', 'cool-down': '◌', proven: '✓', waiting: '◌', refused: '⊘', away: '○', live: '●' };

export function badge(state, phase) {
  const text = state === 'active' && phase ? phase : state;
  return h('span', { class: 'badge ' + state }, h('span', { 'aria-hidden': 'true' }, (signs[state] ?? '·') + ' '), text);
}

/** name shows an image's name; its middle goes first where there is no room. */
export function name(image) {
  const short = shortName(image);
  const cut = Math.max(0, short.length - 16);
  return h('span', { class: 'name', title: image }, h('span', { class: 'head' }, short.slice(0, cut)), h('span', { class: 'tail' }, short.slice(cut)));
}

/** moment shows a time, nothing where there is none. */
export function moment(text) {
  return text ? h('time', { datetime: text }, time(text)) : '';
}

/** bar is a progress bar that changes. */
export function bar(label) {
  const fill = h('progress', { max: '1', 'aria-label': label });
  return {
    element: fill,
    set(part) {
      if (part === undefined) fill.removeAttribute('value');
      else fill.value = part;
    },
  };
}

/** figures says a progress in words: 35 % · 12 of 34 MB · 1.2 MB/s · 18 s left. */
export function figures(progress) {
  if (!progress) return '';
  const part = share(progress);
  const words = [];
  if (part !== undefined) words.push(Math.floor(part * 100) + ' %');
  if (progress.total) words.push(bytes(progress.downloaded) + ' of ' + bytes(progress.total));
  else if (progress.downloaded) words.push(bytes(progress.downloaded));
  if (progress.rate) words.push(bytes(progress.rate) + '/s');
  if (progress.eta_seconds !== undefined) words.push(duration(progress.eta_seconds) + ' left');
  return words.join(' · ');
}

/** fault shows why a job did not succeed, and what to do. */
export function fault(error) {
  if (!error) return null;
  return h('div', { class: 'fault' }, h('strong', {}, error.kind), ' ', error.message,
    advice(error.kind) ? h('p', { class: 'advice' }, advice(error.kind)) : null);
}

/** cancelButton cancels a job. */
export function cancelButton(job, label) {
  const button = h('button', { type: 'button', 'aria-label': 'Cancel ' + label }, 'Cancel');
  button.addEventListener('click', async () => {
    button.disabled = true;
    try {
      await remove('/v1/jobs/' + encodeURIComponent(job));
    } catch (problem) {
      toast(problem.message);
      button.disabled = false;
    }
  });
  return button;
}

// What is worked on comes first: an image may have more layers than a screen has rows.
const ranks = { waiting: 1, downloaded: 1, complete: 2, existing: 2 };
const rank = (layer) => ranks[layer.phase] ?? 0;

/** layerList shows the layers of a job in a list that changes. */
export function layerList() {
  const list = h('ul', { class: 'layers' });
  const rows = new Map();
  return {
    element: list,
    update(layers) {
      const all = layers ? [...layers.values()] : [];
      all.sort((a, b) => rank(a) - rank(b));
      for (const layer of all) {
        let row = rows.get(layer.id);
        if (!row) {
          const progress = bar('Layer ' + layer.id);
          row = { text: h('span', {}), progress };
          row.element = h('li', {}, h('code', {}, layer.id), progress.element, row.text);
          rows.set(layer.id, row);
        }
        const done = layer.phase === 'complete' || layer.phase === 'existing';
        row.progress.set(done ? 1 : layer.total > 0 ? (layer.current ?? 0) / layer.total : layer.phase === 'waiting' ? 0 : undefined);
        setText(row.text, layer.phase + (layer.total > 0 && !done ? ' ' + bytes(layer.current ?? 0) + ' of ' + bytes(layer.total) : ''));
      }
      for (const [id, row] of rows) {
        if (!layers?.has(id)) {
          row.element.remove();
          rows.delete(id);
        }
      }
      all.forEach((layer, i) => {
        const { element } = rows.get(layer.id);
        if (list.children[i] !== element) list.insertBefore(element, list.children[i] ?? null);
      });
    },
  };
}
