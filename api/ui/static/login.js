import { h, show } from './dom.js';

/** loginPage asks for a token. */
export function loginPage(main, submit) {
  const fault = h('p', { class: 'fault', id: 'login-fault', role: 'alert' });
  const token = h('input', { id: 'token', type: 'password', name: 'token', autocomplete: 'current-password', required: true, 'aria-describedby': 'login-fault' });
  const button = h('button', { type: 'submit', class: 'primary' }, 'Log in');
  const form = h('form', { class: 'login', method: 'post' }, // never with the token in the address
    h('h1', {}, 'Log in'),
    h('label', { for: 'token' }, 'Token'), token,
    h('p', { class: 'quiet' }, 'Made on the host by ', h('code', {}, 'towline token new'), '.'),
    fault, button);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    button.disabled = true;
    fault.textContent = '';
    try {
      await submit(token.value);
    } catch (problem) {
      fault.textContent = problem.status === 401 ? 'The daemon does not know this token.' : problem.message;
      token.focus();
    } finally {
      button.disabled = false;
    }
  });
  show(main, form);
  token.focus();
}
