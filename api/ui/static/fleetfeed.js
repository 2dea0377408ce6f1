import { get, query } from './api.js';

const silence = 40000; // milliseconds; the daemon sends a heartbeat every 15 s
const pageSize = 1000; // hosts that are loaded at a time

/**
 * FleetFeed knows the sets and hosts of a fleet, and follows their events. Only while its
 * state is "open" is what it knows current. Events change it at once; it tells of changes
 * at most twice a second.
 */
export class FleetFeed extends EventTarget {
  link = undefined;
  sets = new Map();
  hosts = new Map();
  state = 'connecting'; // open, broken, closed
  problem = undefined; // why there is nothing to show
  since = undefined; // until when it was open
  #abort = new AbortController();
  #source;
  #heard = 0;
  #timer;
  #watch;
  #due;

  open() {
    this.#watch = setInterval(() => {
      if (this.state === 'open' && Date.now() - this.#heard > silence) this.#broken();
    }, 5000);
    this.#connect();
  }

  close() {
    this.state = 'closed';
    this.#abort.abort();
    this.#drop();
    clearInterval(this.#watch);
    clearTimeout(this.#due);
  }

  /** pause ends the connection, as browsers allow few of them at a time. */
  pause() {
    if (this.state === 'closed') return;
    this.#drop();
    this.state = 'connecting';
  }

  resume() {
    if (this.state === 'connecting' && !this.#source && !this.problem) this.#connect();
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = undefined;
  }

  #broken() {
    this.#drop();
    if (this.state === 'open') this.since = new Date();
    this.state = 'broken';
    this.#tell();
    this.#timer = setTimeout(() => this.#connect(), 1000 + Math.random() * 2000);
  }

  // The link is asked for first: its answer says why there is nothing to follow.
  async #connect() {
    this.#drop();
    try {
      this.link = await get('/v1/fleet', this.#abort.signal);
      if (this.link.state === 'off') return this.#stop({ message: this.link.reason ?? 'This daemon is in no fleet.' });
      await get('/v1/fleet/hosts?limit=1', this.#abort.signal);
    } catch (problem) {
      if (this.state === 'closed') return;
      if (problem.status === 404) return this.#stop({ message: 'This daemon does not know of fleets.' });
      if (problem.status === 403) return this.#stop(problem);
      return this.#broken();
    }
    if (this.state === 'closed' || this.#source) return;
    const source = this.#source = new EventSource('/v1/fleet/events');
    const fresh = new Map();
    source.onopen = () => this.#load(source, fresh);
    source.onerror = () => { if (source === this.#source) this.#broken(); };
    source.addEventListener('heartbeat', () => { this.#heard = Date.now(); });
    for (const type of ['set', 'host', 'removed', 'link']) {
      source.addEventListener(type, (event) => {
        if (source !== this.#source) return;
        this.#heard = Date.now();
        this.#take(JSON.parse(event.data), fresh);
      });
    }
  }

  #stop(problem) {
    this.problem = problem;
    this.#tell();
  }

  // The events are followed first, and then all is loaded, so that nothing is missed.
  async #load(source, fresh) {
    const hosts = new Map();
    let sets;
    try {
      let cursor;
      do {
        const page = await get('/v1/fleet/hosts' + query({ limit: pageSize, cursor }), this.#abort.signal);
        for (const host of page.hosts) hosts.set(host.id, host);
        cursor = page.next;
      } while (cursor && source === this.#source);
      sets = (await get('/v1/fleet/sets', this.#abort.signal)).sets;
    } catch {
      if (source === this.#source) this.#broken();
      return;
    }
    if (source !== this.#source) return;
    this.hosts = hosts;
    this.sets = new Map(sets.map((s) => [s.name, s]));
    this.#heard = Date.now();
    this.state = 'open';
    for (const event of fresh.values()) this.#apply(event); // they are newer, or the same
    fresh.clear();
    this.#tell();
  }

  #take(event, fresh) {
    if (this.state === 'open') {
      this.#apply(event);
      this.#tell();
      return;
    }
    const set = event.set?.name ?? event.name;
    const key = set ? 'set ' + set : event.host ? 'host ' + event.host.id : event.type;
    fresh.delete(key); // the latest goes last
    fresh.set(key, event);
  }

  #apply(event) {
    if (event.link) this.link = event.link;
    else if (event.type === 'set') this.sets.set(event.set.name, event.set);
    else if (event.type === 'host') this.hosts.set(event.host.id, event.host);
    else if (event.name) this.sets.delete(event.name);
    else if (event.host) this.hosts.delete(event.host.id);
  }

  #tell() {
    this.#due ??= setTimeout(() => {
      this.#due = undefined;
      this.dispatchEvent(new Event('change'));
    }, 500);
  }
}
