import { get } from './api.js';
import { h, show } from './dom.js';
import { bytes, sentence } from './format.js';
import { fault } from './parts.js';

/** enginePage shows the engine, its disk, the accelerator and whether jobs are taken. */
export function enginePage({ main }) {
  const abort = new AbortController();
  const box = h('div', {}, h('p', { class: 'empty' }, 'Loading …'));
  show(main, h('h1', {}, 'Engine'), box);
  let timer;

  async function load() {
    const [engine, ready] = await Promise.allSettled([get('/v1/engine', abort.signal), get('/readyz', abort.signal)]);
    if (abort.signal.aborted) return;
    const e = engine.value ?? {};
    const a = e.accelerator;
    const away = [engine, ready].find((r) => r.status === 'rejected')?.reason;
    const list = [
      ['Engine', e.name && e.name + ' ' + (e.version ?? '')], ['API version', e.api_version], ['Image store', e.image_store], ['Platform', e.platform], ['Host', e.os_version],
      ['Answers', engine.status === 'fulfilled' ? (e.reachable ? 'yes' : 'no') : 'not known'],
      ['Takes jobs', ready.status === 'fulfilled' ? 'yes' : 'no'],
      ['Accelerator', a && a.way + (a.reason ? ' (' + a.reason + ')' : '')],
      ['Connections to registries', a?.max_connections && a.connections + ' of ' + a.max_connections],
      ['Cache', a?.max_cache_bytes && [bytes(a.cache_bytes) + ' of ' + bytes(a.max_cache_bytes),
        h('meter', { min: '0', max: String(a.max_cache_bytes), value: String(a.cache_bytes), 'aria-label': 'Used part of the cache' })]],
      ['Disk', e.disk && [bytes(e.disk.free) + ' free of ' + bytes(e.disk.total),
        h('meter', { min: '0', max: String(e.disk.total), value: String(e.disk.total - e.disk.free), high: String(e.disk.total * 0.85), 'aria-label': 'Used part of the disk' })]],
    ].filter(([, v]) => v);
    show(box, away ? fault({ kind: away.kind ?? '', message: sentence(away.message) }) : null,
      h('dl', { class: 'facts' }, list.map(([term, value]) => h('div', {}, h('dt', {}, term), h('dd', {}, value)))));
    timer = setTimeout(load, 10000);
  }
  load();
  return () => {
    abort.abort();
    clearTimeout(timer);
  };
}
