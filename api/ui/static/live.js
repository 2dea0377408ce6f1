import { get, query } from './api.js';
import { isOver } from './format.js';

const kept = 300; // ended jobs
const silence = 40000; // milliseconds; the daemon sends a heartbeat every 15 s

/**
 * Live knows the jobs that have not ended, and those that ended since the page was opened.
 * It follows the events of all jobs. Only while its state is "open" is what it knows
 * current.
 */
class Live extends EventTarget {
  jobs = new Map();
  layers = new Map(); // by job: Map of layers by ID
  state = 'closed'; // connecting, open, broken, closed
  since = undefined; // until when the connection was open
  #source;
  #held; // events that arrived while the jobs were loaded
  #heard = 0;
  #asked = new Map(); // jobs that are being loaded: whether events arrived meanwhile
  #retry;
  #watch;
  #changed = new Set();
  #due;

  /** open begins to follow. */
  open() {
    if (this.state !== 'closed') return;
    this.#set('connecting');
    this.#watch = setInterval(() => {
      if (this.state === 'open' && Date.now() - this.#heard > silence) this.#broken();
    }, 5000);
    this.#connect();
  }

  /** close forgets everything. */
  close() {
    this.#drop();
    clearInterval(this.#watch);
    this.jobs.clear();
    this.layers.clear();
    this.since = undefined;
    this.#set('closed');
  }

  /** pause ends the connection, as browsers allow few of them at a time. */
  pause() {
    if (this.state === 'closed') return;
    this.#drop();
    this.#set('connecting');
  }

  /** resume connects again. */
  resume() {
    if (this.state === 'connecting' && !this.#source) this.#connect();
  }

  #drop() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = undefined;
    this.#held = undefined;
  }

  #broken() {
    this.#drop();
    this.#set('broken');
    this.#retry = setTimeout(() => this.#again(), 1000 + Math.random() * 2000);
  }

  // An EventSource does not tell a page that the session has ended. This call does.
  async #again() {
    try {
      await get('/v1/jobs?limit=1');
    } catch (fault) {
      if (fault.status === 401 || this.state !== 'broken') return;
      this.#retry = setTimeout(() => this.#again(), 2000 + Math.random() * 2000);
      return;
    }
    if (this.state === 'broken') this.#connect();
  }

  // The events are followed first, and then the jobs are loaded, so that no end is missed.
  #connect() {
    this.#drop();
    const source = this.#source = new EventSource('/v1/events?every=500ms');
    this.#held = [];
    source.onopen = () => this.#load(source);
    // The jobs are loaded anew, so that nothing depends on what the browser resumes.
    source.onerror = () => { if (source === this.#source) this.#broken(); };
    source.addEventListener('heartbeat', () => { this.#heard = Date.now(); });
    source.addEventListener('image', () => {
      if (source !== this.#source) return;
      this.#heard = Date.now();
      this.dispatchEvent(new Event('image'));
    });
    for (const type of ['state', 'layer', 'result']) {
      source.addEventListener(type, (event) => {
        if (source !== this.#source) return;
        this.#heard = Date.now();
        const content = JSON.parse(event.data);
        if (this.#held) this.#held.push(content);
        else this.#take(content);
      });
    }
  }

  async #load(source) {
    const fresh = new Map();
    try {
      for (const state of ['active', 'queued']) {
        let cursor;
        do {
          const page = await get('/v1/jobs' + query({ state, limit: 200, cursor }));
          if (source !== this.#source) return;
          for (const job of page.jobs) fresh.set(job.id, job);
          cursor = page.next;
        } while (cursor && fresh.size < 2000);
      }
    } catch {
      if (source === this.#source) this.#broken();
      return;
    }
    const before = this.jobs;
    const held = this.#held;
    this.jobs = fresh;
    this.layers.clear();
    this.#held = undefined;
    for (const job of before.values()) if (isOver(job)) fresh.set(job.id, job);
    for (const event of held) this.#take(event);
    for (const id of before.keys()) if (!fresh.has(id)) this.#ask(id); // it ended meanwhile
    this.#heard = Date.now();
    this.#set('open');
    this.#tell('*');
  }

  #take(event) {
    if (event.type === 'result') {
      this.jobs.set(event.job, event.result);
      this.layers.delete(event.job);
      this.#forget();
      return this.#tell(event.job);
    }
    const job = this.jobs.get(event.job);
    if (!job) return this.#ask(event.job);
    if (isOver(job)) return;
    if (event.type === 'state') {
      Object.assign(job, { state: event.state, phase: event.phase });
      if (event.attempt) {
        if (job.attempt !== event.attempt) this.layers.delete(event.job);
        job.attempt = event.attempt;
      }
    } else {
      job.progress = event.progress ?? job.progress;
      let layers = this.layers.get(event.job);
      if (!layers) this.layers.set(event.job, layers = new Map());
      layers.set(event.layer.id, event.layer);
    }
    this.#tell(event.job);
  }

  // It loads a job that is not known, and loads it again if events arrived meanwhile.
  async #ask(id) {
    if (this.#asked.has(id)) {
      this.#asked.set(id, true);
      return;
    }
    this.#asked.set(id, false);
    try {
      let job;
      do {
        this.#asked.set(id, false);
        job = await get('/v1/jobs/' + encodeURIComponent(id));
      } while (this.#asked.get(id) && !isOver(job) && !this.jobs.has(id));
      if (this.state !== 'closed' && !this.jobs.has(id)) this.jobs.set(id, job);
      this.#tell(id);
    } catch { /* it is no longer kept */ }
    this.#asked.delete(id);
  }

  #forget() {
    const ended = [...this.jobs.values()].filter(isOver);
    for (const job of ended.slice(0, Math.max(0, ended.length - kept))) this.jobs.delete(job.id);
  }

  #set(state) {
    if (this.state === 'open' && state !== 'open') this.since = new Date();
    this.state = state;
    this.dispatchEvent(new Event('connection'));
  }

  // It dispatches one event for all that changes in a tenth of a second.
  #tell(id) {
    this.#changed.add(id);
    this.#due ??= setTimeout(() => {
      this.#due = undefined;
      const ids = this.#changed;
      this.#changed = new Set();
      this.dispatchEvent(new CustomEvent('jobs', { detail: ids }));
    }, 100);
  }
}

export const live = new Live();
