import { get, remove } from './api.js';
import { h, show, table, toast } from './dom.js';
import { moment, name } from './parts.js';

/** leaseSection shows the leases, which keep images from collection for a time. */
export function leaseSection(may, signal) {
  const box = h('div');
  const element = h('section', { hidden: true }, h('h2', {}, 'Leases'), box);
  let shown;

  async function load() {
    try {
      const page = await get('/v1/leases?limit=100', signal);
      element.hidden = false;
      const key = JSON.stringify(page);
      if (key === shown) return; // so that the keyboard's focus stays
      shown = key;
      show(box, table('Images that stay for a while', [['Images'], ['Until'], ['Note'], ['Job'], ['Action']], (page.leases ?? []).map(row), 'There is no lease.'),
        page.next ? h('p', { class: 'quiet' }, 'More leases are not shown.') : null);
    } catch (problem) {
      if (!signal.aborted) element.hidden = problem.status === 404; // an older daemon
      if (!signal.aborted && problem.status !== 404) show(box, h('p', { class: 'fault' }, problem.message));
    }
  }

  function row(lease) {
    const end = h('button', { type: 'button', 'aria-label': 'End the lease of ' + lease.images.join(', ') }, 'End');
    end.addEventListener('click', async () => {
      end.disabled = true;
      try {
        await remove('/v1/leases/' + encodeURIComponent(lease.id));
        load();
      } catch (problem) {
        toast(problem.message);
        end.disabled = false;
      }
    });
    return [
      h('ul', { class: 'plain' }, lease.images.map((i) => h('li', {}, name(i)))), moment(lease.expires_at), lease.note ?? '',
      lease.job ? h('a', { href: '#/jobs/' + lease.job, 'aria-label': 'Job of the lease' }, 'job') : '', may('pull') ? end : '',
    ];
  }
  return { element, load };
}
