// Words and numbers of the page, and the smallest steps onto it.

export const $ = (id) => document.getElementById(id);
export const group = new Intl.NumberFormat('en').format;
export const sats = (msat) => group(Math.floor(msat / 1000));
export const frac = (msat) => '.' + String(msat % 1000).padStart(3, '0');
export const money = (msat) => (msat % 1000 ? (msat < 1000 ? `${msat} msat` : `${sats(msat)}${frac(msat)} sat`) : `${sats(msat)} sat`);
export const rate = (n) => (n < 9.95 ? (Math.round(n * 10) / 10).toString() : group(Math.round(n)));
export const short = (hex) => (hex ? `${hex.slice(0, 6)}…${hex.slice(-6)}` : '');
export const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, '0')}`;
export const ms = (n) => (n <= 0 ? '–' : n < 1 ? `${Math.round(n * 1000)} µs` : n < 100 ? `${n.toFixed(1)} ms` : n < 2000 ? `${group(Math.round(n))} ms` : `${(n / 1000).toFixed(1)} s`);
export const plural = (n, one) => `${group(n)} ${one}${n === 1 ? '' : 's'}`;
export const single = (unit) => (unit.endsWith('s') && unit.length > 2 ? unit.slice(0, -1) : unit);
export const blocks = (n) => plural(n, 'block');

export function set(id, text) {
  const el = $(id);
  if (el.textContent !== text) el.textContent = text;
}
export const vary = (el, name, value) => el.style.setProperty(name, value);
export function child(parent, tag, text, className) {
  const el = parent.appendChild(document.createElement(tag));
  if (text !== undefined) el.textContent = text;
  if (className) el.className = className;
  return el;
}

export const named = (s, who) => (s[who].name || who).toLowerCase();
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export function txid(id, hex) {
  set(id, short(hex));
  $(id).dataset.full = hex;
  $(id).title = hex;
  document.querySelector(`[data-copy=${id}]`).hidden = !hex;
}
