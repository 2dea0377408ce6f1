import { h, setText, show } from './dom.js';
import { countText, time } from './format.js';
import { badge } from './parts.js';

const step = 100; // rows
const titles = ['Host', 'State', 'Zone', 'Labels', 'Version', 'Platform', 'Sets', 'Note'];

/** hostSection shows the hosts of a fleet in a table whose rows change in place. */
export function hostSection() {
  const search = h('input', { id: 'host-search', type: 'search', spellcheck: 'false', autocomplete: 'off', placeholder: 'build-7 or role=ci' });
  const live = h('select', { id: 'host-state' }, ['all', 'live', 'away', 'with a fault'].map((s) => h('option', {}, s)));
  const count = h('span', { class: 'quiet' });
  const body = h('tbody');
  const none = h('p', { class: 'empty', hidden: true }, 'No host matches.');
  const tableBox = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Hosts of the fleet' },
    h('table', {}, h('caption', { class: 'quiet' }, 'Hosts of the fleet'), h('thead', {}, h('tr', {}, titles.map((t) => h('th', { scope: 'col' }, t)))), body));
  const more = h('button', { type: 'button', class: 'more', hidden: true }, 'Show more hosts');
  const element = h('section', { hidden: true }, h('h2', {}, 'Hosts ', count), h('form', { class: 'search', role: 'search' },
    h('div', {}, h('label', { for: 'host-search' }, 'Part of a name, zone or label'), search), h('div', {}, h('label', { for: 'host-state' }, 'State'), live)), none, tableBox, more);
  element.querySelector('form').addEventListener('submit', (event) => event.preventDefault());
  const rows = new Map(); // by ID: the row, and what it shows
  let hosts = new Map();
  let limit = step;

  function render() {
    const wanted = search.value.trim().toLowerCase();
    const ids = [...hosts.keys()].sort();
    const matching = ids.filter((id) => matches(hosts.get(id), wanted, live.value));
    const shown = matching.slice(0, limit);
    const elements = shown.map((id) => {
      const host = hosts.get(id);
      const text = JSON.stringify(host);
      let row = rows.get(id);
      if (row?.text !== text) rows.set(id, row = { text, element: hostRow(host) });
      return row.element;
    });
    if (elements.length !== body.children.length || elements.some((e, i) => body.children[i] !== e)) show(body, elements);
    for (const id of rows.keys()) if (!hosts.has(id)) rows.delete(id);
    const alive = ids.filter((id) => hosts.get(id).live).length;
    setText(count, alive + ' of ' + ids.length + ' live');
    none.hidden = matching.length > 0;
    tableBox.hidden = matching.length === 0;
    more.hidden = matching.length <= limit;
  }

  search.addEventListener('input', () => { limit = step; render(); });
  live.addEventListener('change', () => { limit = step; render(); });
  more.addEventListener('click', () => { limit += 4 * step; render(); });
  return {
    element,
    update(now) {
      hosts = now;
      element.hidden = false;
      render();
    },
  };
}

function matches(host, text, state) {
  if (state === 'live' && !host.live || state === 'away' && host.live || state === 'with a fault' && !host.error) return false;
  return !text || [host.id, host.name, host.zone, ...Object.entries(host.labels).map(([k, v]) => k + '=' + v)].some((t) => t?.toLowerCase().includes(text));
}

function hostRow(host) {
  const labels = Object.entries(host.labels).filter(([k]) => k !== 'host' && k !== 'zone').map(([k, v]) => k + '=' + v).sort().join(', ');
  const cells = [
    host.name && host.name !== host.id ? host.id + ' (' + host.name + ')' : host.id, host.live ? badge('live') : h('span', {}, badge('away'), host.heard ? ' since ' + time(host.heard) : ''),
    host.zone ?? '', labels, host.version ?? '', host.platform ?? '', countText(host.counts), host.error ? h('span', { class: 'fault' }, host.error) : host.invited ? 'invited' : '',
  ];
  return h('tr', {}, cells.map((cell, i) => h('td', { 'data-title': titles[i] }, cell)));
}
