import { advice, get, post, query } from './api.js';
import { h, setText, show, table, toast } from './dom.js';
import { countText, duration, fleetStates as states, sentence, shortDigest, time } from './format.js';
import { FleetFeed } from './fleetfeed.js';
import { hostSection } from './fleethosts.js';
import { badge, moment, name } from './parts.js';

const shownReasons = 8;
const shownHosts = 5; // of each reason

/** fleetPage shows the sets of a fleet, how they come to its hosts, and the hosts. */
export function fleetPage({ main, may }) {
  const feed = new FleetFeed();
  const about = h('p', { class: 'quiet' });
  const trouble = h('p', { class: 'fault', role: 'status' });
  const box = h('div', { 'aria-busy': 'true' }, h('p', { class: 'empty' }, 'Loading …'));
  const hosts = hostSection();
  show(main, h('h1', {}, 'Fleet'), about, trouble, box, hosts.element);
  const rows = new Map();

  function update() {
    setText(about, linkText(feed.link));
    setText(trouble, feed.link?.state === 'away' || feed.link?.state === 'refused' ? feed.link.reason ?? feed.link.state
      : feed.state === 'broken' ? 'Not connected.' + (feed.since ? ' This is how it was at ' + time(feed.since) + '.' : '') : '');
    main.classList.toggle('stale', feed.state === 'broken');
    if (feed.problem) {
      box.removeAttribute('aria-busy');
      show(box, h('p', { class: 'empty' }, sentence(feed.problem.message)));
      return;
    }
    if (feed.state === 'connecting') return;
    const elements = [...feed.sets.keys()].sort().map((set) => {
      let row = rows.get(set);
      if (!row) rows.set(set, row = setRow(set, may));
      row.update(feed.sets.get(set));
      return row.element;
    });
    for (const set of rows.keys()) if (!feed.sets.has(set)) rows.delete(set);
    // Elements stay in place, so that the keyboard's focus does.
    if (box.hasAttribute('aria-busy') || elements.length !== box.children.length || elements.some((e, i) => box.children[i] !== e)) {
      box.removeAttribute('aria-busy');
      show(box, elements.length ? elements : h('p', { class: 'empty' }, 'There is no set. Create one with ', h('code', {}, 'towline fleet apply'), '.'));
    }
    hosts.update(feed.hosts);
  }

  const visibility = () => { if (document.hidden) feed.pause(); else feed.resume(); };
  document.addEventListener('visibilitychange', visibility);
  feed.addEventListener('change', update);
  feed.open();
  return () => {
    document.removeEventListener('visibilitychange', visibility);
    main.classList.remove('stale');
    feed.close();
    for (const row of rows.values()) row.close();
  };
}

function linkText(link) {
  if (!link || link.state === 'off') return '';
  return ['Fleet ' + (link.fleet ?? ''), link.host && 'this host is ' + link.host, link.state === 'up' ? 'connected' + (link.since ? ' since ' + time(link.since) : '') : link.state,
    link.server && 'by ' + link.server, link.leader && 'acting controller ' + link.leader].filter(Boolean).join(' · ');
}

/** stateBar draws how many hosts are in each state. */
function stateBar(set) {
  const parts = new Map(states.map((state) => [state, h('span', { class: 'part ' + state })]));
  const element = h('div', { class: 'states', role: 'img' }, [...parts.values()]);
  return {
    element,
    update(counts) {
      for (const [state, part] of parts) {
        part.style.flexGrow = counts[state] ?? 0;
        part.hidden = !counts[state];
      }
      element.setAttribute('aria-label', set + ': ' + (countText(counts) || 'no host'));
    },
  };
}

// What may be done to a rollout, by its state.
const actions = {
  pause: { label: 'Pause', of: ['running', 'pausing'] },
  resume: { label: 'Resume', of: ['pausing', 'paused', 'stopped', 'canceled'] },
  cancel: { label: 'Cancel', of: ['running', 'pausing', 'paused', 'stopped'] },
};

/** setRow is a set that changes. */
function setRow(set, may) {
  const path = '/v1/fleet/sets/' + encodeURIComponent(set);
  const abort = new AbortController();
  const bar = stateBar(set);
  const counts = h('p', { class: 'line counts' });
  const facts = h('p', { class: 'quiet' });
  const rollout = h('p', {});
  const fault = h('p', { class: 'fault' });
  const buttons = may('admin') ? Object.entries(actions).map(([action, { label, of }]) => {
    const button = h('button', { type: 'button', 'aria-label': label + ' the rollout of ' + set }, label);
    button.addEventListener('click', async () => {
      button.disabled = true;
      try {
        await post(path + '/' + action);
      } catch (problem) {
        toast(problem.message);
      }
      button.disabled = false;
    });
    return { button, of };
  }) : [];
  const failures = failureList(set, path, abort.signal);
  const images = h('div');
  const members = memberList(set, path, abort.signal);
  let shownImages;
  let shownCounts;

  return {
    element: h('section', { class: 'set' }, h('div', { class: 'line' }, h('h2', {}, set), buttons.map((b) => b.button)),
      bar.element, counts, rollout, fault, failures.element, facts, h('details', {}, h('summary', {}, 'Images'), images), members.element),
    close() { abort.abort(); },
    update(now) {
      const key = JSON.stringify([now.generation, now.counts]);
      const r = now.rollout;
      bar.update(now.counts);
      if (key !== shownCounts) {
        shownCounts = key;
        show(counts, states.filter((s) => now.counts[s] > 0).map((s) => h('span', {}, badge(s), ' ' + now.counts[s])), r.members === 0 ? 'No host has its labels.' : null);
        failures.update((now.counts.failed ?? 0) + (now.counts.refused ?? 0));
        members.update();
      }
      setText(rollout, 'Generation ' + now.generation + '. Rollout ' + r.state + (r.reason ? ': ' + r.reason : '') + '. ' + r.released + ' of ' + r.members + ' hosts may have it' +
        (r.state === 'pausing' && r.next_wave ? '; the next wave is at ' + time(r.next_wave) : '') + '.');
      setText(fault, now.error ?? '');
      for (const { button, of } of buttons) button.hidden = !of.includes(r.state);
      setText(facts, [Object.entries(now.hosts ?? {}).map(([k, v]) => k + '=' + v).join(', ') || 'all hosts', r.canary && 'canary ' + r.canary, r.wave && 'waves of ' + r.wave,
        r.pause && 'pause ' + r.pause, r.max_failures && 'stops at more than ' + r.max_failures + ' failures', now.schedule && 'schedule ' + now.schedule, now.window && 'window ' + now.window,
        now.jitter_seconds && 'jitter ' + duration(now.jitter_seconds), 'resolved ' + time(now.resolved_at), now.next_run && 'again ' + time(now.next_run), now.caller && 'by ' + now.caller]
        .filter(Boolean).join(' · '));
      const pinned = JSON.stringify(now.images);
      if (pinned !== shownImages) {
        shownImages = pinned;
        show(images, table('Images of ' + set, [['Image'], ['Platform'], ['Digest']], now.images.map((i) => [name(i.image), i.platform ?? '', h('code', { title: i.digest }, shortDigest(i.digest))]), 'No images.'));
      }
    },
  };
}

/** calm calls f at once, and then at most every two seconds. */
function calm(f, signal) {
  let timer;
  let again = false;
  return function run() {
    if (timer) {
      again = true;
      return;
    }
    again = false;
    if (!signal.aborted) f();
    timer = setTimeout(() => {
      timer = undefined;
      if (again && !signal.aborted) run();
    }, 2000);
  };
}

/** failureList shows why hosts failed or refused, a line for each reason, with what to do. */
function failureList(set, path, signal) {
  const element = h('ul', { class: 'plain failures', 'aria-label': 'Why hosts failed, of ' + set, hidden: true });
  let count = 0;
  const load = calm(async () => {
    const all = [];
    try {
      for (const state of ['failed', 'refused']) all.push(...(await get(path + query({ state, limit: 1000 }), signal)).members ?? []);
    } catch { return; } // the counts stay
    if (count === 0) return;
    const reasons = new Map();
    for (const m of all) {
      const key = m.state + (m.kind ? ' (' + m.kind + ')' : '') + ': ' + why(m);
      if (!reasons.has(key)) reasons.set(key, []);
      reasons.get(key).push(m);
    }
    const most = [...reasons].sort((a, b) => b[1].length - a[1].length);
    show(element, most.slice(0, shownReasons).map(([reason, members]) => h('li', {}, h('strong', {}, listed(members.map((m) => m.host))), ' ',
      h('span', { class: 'fault' }, reason), advice(members[0].kind) ? h('p', { class: 'advice' }, advice(members[0].kind)) : null)),
    most.length > shownReasons ? h('li', { class: 'quiet' }, (most.length - shownReasons) + ' more reasons are under Hosts.') : null);
    element.hidden = false;
  }, signal);
  return {
    element,
    update(now) {
      count = now;
      if (count === 0) {
        element.hidden = true;
        show(element);
      } else load();
    },
  };
}

function listed(hosts) {
  const more = hosts.length - shownHosts;
  return hosts.slice(0, shownHosts).join(', ') + (more > 0 ? ' and ' + more + ' more' : '');
}

function why(member) {
  const images = (member.images ?? []).filter((i) => i.error && !member.error?.includes(i.error)).map((i) => i.image + ': ' + i.error);
  return [member.error, ...images].filter(Boolean).join('; ') || 'no reason is known';
}

/** memberList shows the hosts of a set, a page at a time, when it is opened. */
function memberList(set, path, signal) {
  const filter = h('select', { id: 'state-' + set }, h('option', { value: '' }, 'all'), states.map((s) => h('option', { value: s }, s)));
  const box = h('div');
  const more = h('button', { type: 'button', class: 'more', hidden: true }, 'Show more');
  const element = h('details', {}, h('summary', {}, 'Hosts'), h('div', { class: 'filter' }, h('label', { for: 'state-' + set }, 'State'), filter), box, more);
  let wanted = 100;
  let shown;

  const load = calm(async () => {
    if (!element.open) return;
    const all = [];
    let cursor;
    try {
      do {
        const page = await get(path + query({ state: filter.value, limit: Math.min(1000, wanted - all.length), cursor }), signal);
        all.push(...page.members ?? []);
        cursor = page.next;
      } while (cursor && all.length < wanted);
    } catch (problem) {
      if (!signal.aborted) toast(problem.message);
      return;
    }
    const text = JSON.stringify(all);
    more.hidden = !cursor;
    if (text === shown) return;
    shown = text;
    const focused = box.contains(document.activeElement);
    show(box, table('Hosts of ' + set, [['Host'], ['State'], ['Has'], ['Heard'], ['Note']], all.map((m) => [
      m.host, badge(m.state), m.generation ? 'generation ' + m.generation : '', moment(m.at),
      m.state === 'proven' ? '' : m.state === 'away' ? (m.last ? 'was ' + m.last : '') : m.error || m.images ? why(m) : m.released ? '' : 'its wave has not come',
    ]), 'No host.'));
    if (focused) box.querySelector('[tabindex]')?.focus();
  }, signal);

  element.addEventListener('toggle', load);
  filter.addEventListener('change', () => { wanted = 100; load(); });
  more.addEventListener('click', () => { wanted += 400; load(); });
  return { element, update: load };
}
