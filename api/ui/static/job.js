import { get } from './api.js';
import { h, replace, setText, show, table } from './dom.js';
import { bytes, duration, imageCount, isOver, sentence, share, shortDigest, sourceName, time, took } from './format.js';
import { badge, bar, cancelButton, fault, figures, layerList, name } from './parts.js';

/** jobPage shows one job: its progress, its events and its result. */
export function jobPage({ main, may, id, title }) {
  const abort = new AbortController();
  const head = h('div');
  const progress = bar('Progress');
  const text = h('p', { class: 'figures' });
  const layers = layerList();
  const timeline = h('ol', { class: 'timeline' });
  const output = h('pre', { class: 'output', tabindex: '0', 'aria-label': 'Output' });
  const outputBox = h('section', { hidden: true }, h('h2', {}, 'Output'), output);
  const about = h('div');
  const layerBox = h('section', { hidden: true }, h('h2', {}, 'Layers'), layers.element);
  const body = h('div', { hidden: true }, progress.element, text, about, layerBox, h('section', {}, h('h2', {}, 'Timeline'), timeline), outputBox);
  show(main, h('p', {}, h('a', { href: '#/jobs' }, '← History')), head, body);
  const seen = new Map();
  let job;
  let source;
  let retry;
  let stale; // loads what the events of a prewarm do not tell
  let printed = 0; // characters of output

  async function load() {
    try {
      job = await get('/v1/jobs/' + encodeURIComponent(id), abort.signal);
    } catch (problem) {
      if (abort.signal.aborted) return;
      // An answer that is missing or a fault of the daemon may pass.
      if (problem.status === 0 || problem.status >= 500) retry = setTimeout(load, 2000 + Math.random() * 2000);
      if (job && problem.status !== 404) return; // what is shown is marked as old
      body.hidden = true;
      show(head, h('h1', {}, 'Job ' + id), h('p', { class: 'fault' }, sentence(problem.message)));
      delete head.dataset.key;
      return;
    }
    body.hidden = false;
    update();
    connect();
  }

  // The events of a prewarm tell what has become of an image only in words.
  async function reload() {
    stale = undefined;
    try {
      const { images } = await get('/v1/jobs/' + encodeURIComponent(id), abort.signal);
      if (isOver(job)) return;
      job.images = images;
      update();
    } catch { /* the next event has it loaded again */ }
  }

  function connect() {
    source?.close();
    if (document.hidden) return;
    timeline.replaceChildren();
    output.replaceChildren();
    seen.clear();
    printed = 0;
    source = new EventSource('/v1/jobs/' + encodeURIComponent(id) + '/events?since=0&every=500ms');
    source.onerror = () => {
      source.close();
      if (!isOver(job)) retry = setTimeout(load, 2000 + Math.random() * 2000);
    };
    for (const type of ['state', 'layer', 'notice', 'log', 'result']) source.addEventListener(type, (e) => take(JSON.parse(e.data)));
  }

  function take(event) {
    switch (event.type) {
      case 'state':
        if (event.attempt && event.attempt !== job.attempt) seen.clear();
        Object.assign(job, { state: event.state, phase: event.phase, attempt: event.attempt });
        entry(event, event.phase && event.state === 'active' ? event.phase + (event.attempt > 1 ? ', attempt ' + event.attempt : '') : event.state);
        break;
      case 'notice':
        entry(event, event.message, 'notice');
        break;
      case 'log':
        outputBox.hidden = false;
        print(event.encoding === 'base64' ? '[' + event.text.length + ' characters of base64]\n' : event.text);
        return;
      case 'layer':
        job.progress = event.progress ?? job.progress;
        seen.set(event.layer.id, event.layer);
        break;
      case 'result':
        job = event.result;
        if (job.error) entry(event, job.error.message, job.state);
        source.close();
    }
    if (job.kind === 'prewarm' && !isOver(job)) stale ??= setTimeout(reload, 1000);
    update();
  }

  // The newest output stays.
  function print(words) {
    output.append(words);
    printed += words.length;
    while (printed > 200000 && output.firstChild !== output.lastChild) {
      printed -= output.firstChild.data.length;
      output.firstChild.remove();
    }
  }

  function entry(event, words, kind) {
    timeline.append(h('li', { class: kind }, h('time', { datetime: event.time }, time(event.time)), ' ', words));
    while (timeline.children.length > 500) timeline.firstElementChild.remove();
  }

  function update() {
    const ended = isOver(job);
    const label = job.kind === 'prewarm' ? 'Prewarm of ' + imageCount(job) : job.image;
    title(label);
    const key = JSON.stringify([job.state, job.phase, job.result, job.error]);
    if (head.dataset.key !== key) {
      head.dataset.key = key;
      replace(head, h('h1', {}, job.kind === 'prewarm' ? label : name(job.image)),
        h('p', { class: 'line' }, badge(job.state, job.phase), ' ', job.kind, job.parent ? [' of ', h('a', { href: '#/jobs/' + job.parent }, 'a prewarm')] : null,
          !ended && may(job.kind === 'run' ? 'run' : 'pull') ? cancelButton(job.id, label) : null),
        fault(job.error));
    }
    const details = key + JSON.stringify(job.images);
    if (about.dataset.key !== details) {
      about.dataset.key = details;
      replace(about, facts(job), children(job));
    }
    progress.set(share(job.progress));
    setText(text, ended ? '' : job.state === 'queued' ? 'waits since ' + time(job.created_at) : figures(job.progress));
    progress.element.hidden = ended || job.state === 'queued' || job.phase === 'running';
    layerBox.hidden = seen.size === 0;
    layers.update(seen);
  }

  // Browsers allow few connections at a time.
  function visible() {
    clearTimeout(retry);
    source?.close();
    if (!document.hidden && (!job || !isOver(job))) load();
  }
  document.addEventListener('visibilitychange', visible);
  load();
  return () => {
    document.removeEventListener('visibilitychange', visible);
    abort.abort();
    clearTimeout(retry);
    clearTimeout(stale);
    source?.close();
  };
}

function facts(job) {
  const r = job.result ?? {};
  const t = job.timings ?? {};
  const a = r.accelerated;
  const way = a && a.way + (a.reason ? ' (' + a.reason + ')' : '');
  const from = a && a.way !== 'none' && [['registry', a.from_registry], ['cache', a.from_cache], ['peers', a.from_peers]].filter(([, n]) => n > 0).map(([w, n]) => bytes(n) + ' from ' + w).join(', ');
  const list = [
    ['ID', h('code', {}, job.id)], ['Policy', job.policy], ['Platform', job.platform], ['Priority', job.priority],
    ['Created', time(job.created_at)], ['Started', time(job.started_at)], ['Finished', time(job.finished_at)],
    ['Took', took(job)], ['Source', sourceName(r.source)],
    ['Digest', r.digest && h('code', { title: r.digest }, shortDigest(r.digest))],
    ['Image ID', r.image_id && h('code', { title: r.image_id }, shortDigest(r.image_id))],
    ['Size', r.size ? bytes(r.size) : ''], ['Downloaded', r.source === 'pulled' ? bytes(r.downloaded) : ''],
    ['Accelerator', way], ['Bytes', from],
    ['Exit code', r.exit_code], ['Memory', r.oom_killed && 'the kernel ended it for want of memory'], ['Output', r.truncated && 'cut at the limit (runs.output)'], ['Engine answered after', duration(t.first_byte_seconds)], ['Stream', duration(t.stream_seconds)], ['Proof', duration(t.verify_seconds)],
  ].filter(([, value]) => value !== undefined && value !== '' && value !== null && value !== false);
  return h('dl', { class: 'facts' }, list.map(([term, value]) => h('div', {}, h('dt', {}, term), h('dd', {}, value))));
}

function children(job) {
  if (job.kind !== 'prewarm') return null;
  return table('Images', [['State'], ['Image'], ['Source'], ['Note']], (job.images ?? []).map((i) => [
    badge(i.state), i.job ? h('a', { href: '#/jobs/' + i.job }, name(i.image)) : i.service ?? name(i.image),
    sourceName(i.source) ?? '', i.error ? i.error.kind + ': ' + i.error.message : i.reason ?? '',
  ]), 'No images.');
}
