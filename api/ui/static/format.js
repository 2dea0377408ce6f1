/** bytes writes a size: 12.3 MB. */
export function bytes(n) {
  if (n === undefined || n === null) return '';
  for (const unit of ['B', 'kB', 'MB', 'GB', 'TB']) {
    if (Math.abs(n) < 1000 || unit === 'TB') return (unit === 'B' || n >= 100 ? Math.round(n) : n.toFixed(1)) + ' ' + unit;
    n /= 1000;
  }
}

/** duration writes seconds: 1h 02m. */
export function duration(seconds) {
  if (seconds === undefined || seconds === null) return '';
  if (seconds < 10) return seconds.toFixed(1) + ' s';
  const s = Math.round(seconds);
  if (s < 60) return s + ' s';
  if (s < 3600) return Math.floor(s / 60) + 'm ' + String(s % 60).padStart(2, '0') + 's';
  return Math.floor(s / 3600) + 'h ' + String(Math.floor(s / 60) % 60).padStart(2, '0') + 'm';
}

/** time writes a moment in the reader's own zone. */
export function time(text) {
  if (!text) return '';
  const at = new Date(text);
  const today = new Date().toDateString() === at.toDateString();
  return today ? at.toLocaleTimeString() : at.toLocaleString();
}

/** took says how long a job took that has ended. */
export function took(job) {
  return duration(job.result?.duration_seconds ?? (job.finished_at && (Date.parse(job.finished_at) - Date.parse(job.created_at)) / 1000));
}

/** sourceName writes where an image came from: up to date. */
export function sourceName(source) {
  return source?.replaceAll('_', ' ');
}

/** imageCount writes how many images a prewarm has: 1 image. */
export function imageCount(job) {
  const n = job.children?.length ?? 0;
  return n + (n === 1 ? ' image' : ' images');
}

/** sentence writes a message of the daemon as a sentence. */
export function sentence(message) {
  return message.charAt(0).toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? '' : '.');
}

/** shortName takes off what is usual in an image's name. */
export function shortName(image) {
  return (image ?? '').replace(/^docker\.io\/(library\/)?/, '');
}

/** shortDigest keeps the first twelve digits. */
export function shortDigest(digest) {
  return (digest ?? '').replace(/^sha256:/, '').slice(0, 12);
}

/** share is how far a progress is, from 0 to 1; undefined where that is not known. */
export function share(progress) {
  if (!progress) return undefined;
  if (progress.total > 0) return Math.min(1, progress.downloaded / progress.total);
  return progress.layers > 0 && progress.layers_done === progress.layers ? 1 : undefined;
}

/** isOver reports whether a job has ended. */
export function isOver(job) {
  return job.state !== 'queued' && job.state !== 'active';
}

/** fleetStates are how a set of a fleet may stand on a host. */
export const fleetStates = ['proven', 'pulling', 'waiting', 'refused', 'failed', 'away'];

/** countText writes how many are in each of these states. */
export function countText(counts) {
  return fleetStates.filter((s) => counts?.[s] > 0).map((s) => counts[s] + ' ' + s).join(', ');
}
