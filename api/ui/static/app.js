import { get, onUnauthorized, post, remove } from './api.js';
import { h, setText, show, toast } from './dom.js';
import { time } from './format.js';
import { live } from './live.js';
import { loginPage } from './login.js';
import { nowPage } from './now.js';
import { jobsPage } from './jobs.js';
import { jobPage } from './job.js';
import { enginePage } from './engine.js';
import { queuePage } from './queue.js';
import { imagesPage } from './images.js';
import { setsPage } from './sets.js';
import { fleetPage } from './fleet.js';

const pages = [
  { path: '', title: 'Now', page: nowPage },
  { path: 'queue', title: 'Queue', page: queuePage },
  { path: 'jobs', title: 'History', page: jobsPage },
  { path: 'sets', title: 'Sets', page: setsPage },
  { path: 'images', title: 'Images', page: imagesPage },
  { path: 'fleet', title: 'Fleet', page: fleetPage },
  { path: 'engine', title: 'Engine', page: enginePage },
];

const main = document.getElementById('main');
const nav = document.getElementById('nav');
const connection = document.getElementById('connection');
const logout = document.getElementById('logout');

let who; // the caller, with its scopes
let leave; // ends the page that is shown

function may(scope) {
  return who !== undefined && (who.scopes.includes('admin') || who.scopes.includes(scope));
}

async function start() {
  try {
    const session = await get('/v1/session');
    who = { ...session, scopes: session.scopes ?? [] };
  } catch (fault) {
    if (fault.status === 401) return login();
    show(main, h('p', { class: 'notice' }, fault.message), h('button', { type: 'button', onclick: start }, 'Try again'));
    return;
  }
  logout.hidden = false;
  show(logout, 'Log out', who.caller ? h('span', { class: 'caller' }, ' ' + who.caller) : null);
  live.open();
  route();
}

function login() {
  who = undefined;
  live.close();
  logout.hidden = true;
  leave?.();
  leave = undefined;
  show(nav);
  document.title = 'Log in – Towline';
  loginPage(main, async (token) => {
    await post('/v1/session', { token });
    await start();
  });
}

function route() {
  if (!who) return;
  leave?.();
  leave = undefined;
  show(document.getElementById('toasts')); // they are about another page
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, ...rest] = path.split('/').map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  const found = pages.find((p) => p.path === name) ?? pages[0];
  show(nav, h('ul', {}, pages.map((p) => h('li', {}, h('a', { href: '#/' + p.path, 'aria-current': p === found ? 'page' : undefined }, p.title)))));
  nav.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  show(main);
  const context = { main, may, id: rest[0], query: new URLSearchParams(query ?? ''), title: (text) => { document.title = text + ' – Towline'; } };
  context.title(found.title);
  leave = (name === 'jobs' && rest[0] ? jobPage : found.page)(context);
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

live.addEventListener('connection', () => {
  const words = {
    open: 'Live',
    connecting: 'Connecting …',
    broken: live.since ? 'Not connected. This is how it was at ' + time(live.since) + '.' : 'Not connected.',
    closed: '',
  };
  setText(connection, words[live.state]);
  connection.className = 'status ' + live.state;
  document.body.classList.toggle('stale', live.state !== 'open');
});

logout.addEventListener('click', async () => {
  try { await remove('/v1/session'); } catch (fault) { toast(fault.message); }
  login();
});

// The address says which page is shown, so the link must not change it.
document.querySelector('a.skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});

document.addEventListener('visibilitychange', () => {
  if (document.hidden) live.pause();
  else live.resume();
});
onUnauthorized(login);
addEventListener('hashchange', route);
start();
