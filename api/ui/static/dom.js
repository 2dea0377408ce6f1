// Elements are made from text, never from HTML, so that names and messages from outside stay text.

/** h makes an element. Properties that begin with "on" are listeners. */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'class') element.className = value;
    else if (key in element && typeof value !== 'string') element[key] = value;
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

/** show replaces what an element contains. */
export function show(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
}

/** replace is show for what changes beside the reader: a link or a button that has the focus keeps it. */
export function replace(element, ...children) {
  const focus = element.contains(document.activeElement) ? document.activeElement : null;
  const same = (e) => ['href', 'aria-label'].every((a) => e.getAttribute(a) === focus.getAttribute(a));
  show(element, ...children);
  if (focus) [...element.querySelectorAll(focus.localName)].find(same)?.focus({ preventScroll: true });
}

/** setText changes a text only if it differs, so that screen readers and selections are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** toast shows a message for some seconds. */
export function toast(message) {
  const note = h('div', { class: 'toast' }, h('span', {}, message),
    h('button', { type: 'button', 'aria-label': 'Close this message', onclick: () => note.remove() }, '×'));
  document.getElementById('toasts').append(note);
  setTimeout(() => note.remove(), 12000);
}

/** table makes a table. columns are [title, class]; rows are lists of cells. */
export function table(caption, columns, rows, empty) {
  if (rows.length === 0) return h('p', { class: 'empty' }, empty);
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    h('table', {}, h('caption', { class: 'quiet' }, caption),
      h('thead', {}, h('tr', {}, columns.map(([title, kind]) => h('th', { scope: 'col', class: kind }, title)))),
      h('tbody', {}, rows.map((cells) => h('tr', {}, cells.map((cell, i) => h('td', { class: columns[i][1], 'data-title': columns[i][0] }, cell)))))));
}
