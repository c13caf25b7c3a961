// The pictures of a ledger: a block lattice's accounts as rows of blocks, and the
// Tangle as it grows to the right. Blocks have their place by the number in which
// they were seen, so a picture is moved, not drawn again.

import { $, group, money, plural, set, child, short, capital } from '/words.js';

const NS = 'http://www.w3.org/2000/svg';
function svg(parent, tag, attrs, text) {
  const el = parent.appendChild(document.createElementNS(NS, tag));
  for (const [k, v] of Object.entries(attrs)) el.setAttribute(k, v);
  if (text !== undefined) el.textContent = text;
  return el;
}

// A strip slides its content so that the newest block is at the right. Elements are
// made once, by key, and go when their block does.
class Strip {
  constructor(g) { this.g = g; this.have = new Map(); this.shift = NaN; }
  slide(x) {
    if (this.shift === x) return;
    this.g.classList.toggle('still', !(Math.abs(x - this.shift) < 300));
    this.g.style.transform = `translateX(${x}px)`;
    this.shift = x;
  }
  // keep returns the element of a key, made by make if it is new.
  keep(key, make) {
    let el = this.have.get(key);
    if (!el) this.have.set(key, el = make(this.g));
    el.kept = true;
    return el;
  }
  sweep() {
    for (const [key, el] of this.have) {
      if (!el.kept) { el.remove(); this.have.delete(key); }
      el.kept = false;
    }
  }
  clear() { this.g.replaceChildren(); this.have.clear(); this.shift = NaN; }
}

const words = { tip: 'a tip', waiting: 'waiting', final: 'confirmed for ever', lost: 'lost: another block has its place', conflicting: 'confirmed, and changed nothing: its money was spent before' };
let held = false, strip, links, fixed, shown = '';

function prepare(kind, w, h) {
  const size = `${kind} ${w} ${h}`;
  const picture = $('picture');
  if (shown === size) return picture;
  shown = size;
  picture.replaceChildren();
  picture.setAttribute('viewBox', `0 0 ${w} ${h}`);
  picture.style.height = `${h}px`;
  fixed = svg(picture, 'g', {});
  links = new Strip(svg(picture, 'g', { class: 'strip' }));
  strip = new Strip(svg(picture, 'g', { class: 'strip' }));
  lanes.clear();
  $('explorer').classList.toggle('tangled', kind === 'tangle');
  set('explorer-is', kind === 'tangle' ? 'The Tangle' : 'The block lattice');
  $('legend').replaceChildren();
  const key = kind === 'tangle' ? { tip: 'tip', waiting: 'waiting', final: 'confirmed', conflicting: 'without effect', milestone: 'milestone' } : { waiting: 'waiting for votes', final: 'final', lost: 'lost' };
  for (const [state, word] of Object.entries(key)) {
    const entry = child($('legend'), 'span');
    child(entry, 'i', undefined, state);
    child(entry, 'span', word);
  }
  return picture;
}

// drawPicture draws what there is; hold stops it.
export function drawPicture(s) {
  $('explorer').hidden = !s.network;
  if (!s.network || held) return;
  const w = $('picture').clientWidth;
  if (!w) return;
  if (s.tangle) drawTangle(s, w); else if (s.lattice) drawLattice(s, w);
  drawTable(s);
}
$('hold').addEventListener('click', () => {
  held = !held;
  $('hold').setAttribute('aria-pressed', held);
  set('hold', held ? 'go on' : 'hold still');
});

// ---- the lattice ----

const ROW = 58, BOX = 22, STEP = 36, TOP = 26;
const glyphs = { send: 'M-4 4L4 -4M-2.5 -4H4V2.5', receive: 'M4 -4L-4 4M2.5 4H-4V-2.5', open: 'M-4.5 0H4.5M0 -4.5V4.5', change: 'M-5 -2H5L2.5 -4.5M5 2.5H-5L-2.5 5' };

function drawLattice(s, w) {
  const rows = s.lattice.accounts, h = TOP + rows.length * ROW - 16;
  prepare('lattice', w, h);
  const newest = Math.max(1, ...rows.flatMap((a) => a.blocks.map((b) => b.seq)));
  const left = newest - Math.floor((w - BOX) / STEP); // blocks before it are out of sight
  const places = new Map();
  fixed.replaceChildren();
  rows.forEach((a, i) => {
    const y = TOP + i * ROW + 12, tipX = w - BOX - 4;
    const label = svg(fixed, 'text', { class: 'row', x: 2, y: y - BOX / 2 - 6 });
    svg(label, 'tspan', { class: 'who' }, a.name);
    svg(label, 'tspan', { dx: 8 }, `${money(a.msat)} · ${plural(a.height, 'block')}`);
    const own = a.blocks.filter((b) => b.state !== 'lost').at(-1);
    const end = own ? tipX - (newest - Math.max(own.seq, left)) * STEP + BOX / 2 : 0;
    if (own) svg(fixed, 'line', { class: 'chainline', x1: 0, x2: Math.max(end, BOX), y1: y, y2: y });
    if (own && own.seq < left) box(fixed, own, BOX / 2 + 2, y).classList.add('parked');
    for (const b of a.blocks) if (b.seq >= left) places.set(b.hash, [b, i, y]);
  });
  for (const [hash, [b, i, y]] of places) {
    // Of two blocks for one place the other stands lower, until it is lost.
    const rival = rows[i].blocks.find((o) => o.height === b.height && o.hash !== hash);
    const down = rival && (b.state === 'lost' || (rival.state !== 'lost' && b.seq > rival.seq)) ? 14 : 0;
    const el = strip.keep(hash, (g) => box(g, b, b.seq * STEP, y + down));
    el.setAttribute('class', `box ${b.state}`);
    el.firstChild.textContent = `${rows[i].name}: ${b.kind} of ${money(b.msat)}, ${words[b.state]}; block ${b.height}, ${short(b.hash)}`;
    const from = b.from && places.get(b.from);
    if (from) {
      const [x1, y1, x2, y2] = [from[0].seq * STEP, from[2], b.seq * STEP, y], dir = Math.sign(y2 - y1) * (BOX / 2);
      const link = links.keep(hash, (g) => svg(g, 'path', { d: `M${x1} ${y1 + dir}C${x1} ${(y1 + y2) / 2} ${x2} ${(y1 + y2) / 2} ${x2} ${y2 - dir}` }));
      link.setAttribute('class', `hop ${b.state}`);
    }
  }
  const shift = w - BOX - 4 - newest * STEP;
  for (const layer of [links, strip]) { layer.sweep(); layer.slide(shift); }
  const waiting = rows.flatMap((a) => a.blocks).filter((b) => b.state === 'waiting').length, lost = rows.flatMap((a) => a.blocks).filter((b) => b.state === 'lost').length;
  const votes = `${waiting ? plural(waiting, 'block') : 'No block'} ${waiting > 1 ? 'wait' : 'waits'} for votes${lost ? `, ${plural(lost, 'block')} lost against another of the same place` : ''}.`;
  tell(`Each row is an account, each square one of its blocks; a line leads from a send to where it is received. ${votes}`,
    `The newest blocks of ${plural(rows.length, 'account')}: ${rows.map((a) => `${a.name} has ${plural(a.height, 'block')} and ${money(a.msat)}`).join(', ')}. ${votes}`);
}

function box(g, b, x, y) {
  const el = svg(g, 'g', { class: `box ${b.state}`, transform: `translate(${x} ${y})` });
  svg(el, 'title', {}, '');
  svg(el, 'rect', { x: -BOX / 2, y: -BOX / 2, width: BOX, height: BOX, rx: 5 });
  svg(el, 'path', { d: glyphs[b.kind] ?? '' });
  return el;
}

// ---- the Tangle ----

const LANE = 21, lanes = new Map();

// lane keeps the lane of a block, and chooses one for a new one: by its ID, where
// none of those just before it is. The middle one is the milestones'.
function lane(b, count, apart) {
  let l = lanes.get(b.seq);
  if (l !== undefined) return l;
  const taken = new Set();
  for (let k = 1; k <= apart; k++) taken.add(lanes.get(b.seq - k));
  const middle = Math.floor(count / 2);
  l = b.kind === 'milestone' ? middle : parseInt(b.id.slice(0, 6), 16) % count;
  for (let k = 0; k < count && b.kind !== 'milestone' && (taken.has(l) || l === middle); k++) l = (l + (count % 3 ? 3 : 4)) % count;
  lanes.set(b.seq, l);
  return l;
}

function drawTangle(s, w) {
  const t = s.tangle, count = w < 600 ? 9 : 11, h = count * LANE + 14;
  const step = w < 600 ? 11 : 12.5, room = Math.floor((w - 24) / step);
  prepare('tangle', w, h);
  const blocks = t.blocks.slice(-room), newest = blocks.at(-1)?.seq ?? 0, known = new Map(blocks.map((b) => [b.seq, b]));
  for (const seq of lanes.keys()) if (!known.has(seq) && seq < newest) lanes.delete(seq);
  const at = (b) => [b.seq * step, 14 + lane(b, count, Math.ceil(26 / step)) * LANE];
  for (const b of blocks) {
    const [x, y] = at(b);
    const el = strip.keep(b.seq, (g) => dot(g, b, x, y));
    el.setAttribute('class', `dot ${b.kind} ${b.state}`);
    el.firstChild.textContent = `${b.kind}${b.kind === 'milestone' ? ` ${b.milestone}` : ''} ${b.id.slice(0, 12)}, ${plural(b.parents.length, 'parent')}, ${words[b.state]}${b.milestone && b.kind !== 'milestone' ? ` by milestone ${b.milestone}` : ''}`;
    if (b.kind === 'milestone') el.lastChild.textContent = b.milestone;
    const seen = b.parents.filter((p) => known.has(p));
    if (!seen.length) continue;
    const edges = links.keep(b.seq, (g) => svg(g, 'path', { d: seen.map((p) => { const [px, py] = at(known.get(p)); return `M${x} ${y}C${(x + px) / 2} ${y} ${(x + px) / 2} ${py} ${px} ${py}`; }).join('') }));
    edges.setAttribute('class', `edge ${b.kind} ${b.state}`);
  }
  for (const layer of [links, strip]) { layer.sweep(); layer.slide(w - 12 - newest * step); }
  const of = (state) => blocks.filter((b) => b.state === state).length;
  const none = of('conflicting'), counts = `Of ${blocks.length} blocks milestones have confirmed ${of('final') + none}${none ? `, ${none} of them without effect because the money was spent before` : ''}; ` +
    `${of('waiting')} wait, and ${plural(of('tip'), 'tip')} ${of('tip') === 1 ? 'has' : 'have'} no approver yet.`;
  tell(`Each dot is a block, a large one a payment; lines lead to the blocks it approves. ${counts}`, `The newest part of the Tangle, up to milestone ${t.milestone}. ${counts}`);
}

function dot(g, b, x, y) {
  const el = svg(g, 'g', { class: 'dot', transform: `translate(${x} ${y})` });
  svg(el, 'title', {}, '');
  if (b.kind === 'milestone') {
    svg(el, 'path', { class: 'body', d: 'M0 -9L9 0L0 9L-9 0Z' });
    svg(el, 'text', { y: -12, 'text-anchor': 'middle' }, '');
  } else {
    svg(el, 'circle', { class: 'body', r: b.kind === 'payment' ? 5.5 : 4 });
    svg(el, 'path', { class: 'cross', d: 'M-3 -3L3 3M3 -3L-3 3' });
  }
  return el;
}

// ---- the same in words ----

// tell says below the picture how it is read, and what it shows to who cannot see it.
function tell(caption, alternative) {
  set('picture-says', caption);
  $('picture').setAttribute('aria-label', alternative);
}

// drawTable lists the newest blocks while somebody has the list open.
function drawTable(s) {
  if (!$('listing').open) return;
  const list = $('listed');
  list.replaceChildren();
  const rows = s.tangle
    ? s.tangle.blocks.slice(-16).reverse().map((b) => [capital(b.kind), b.id.slice(0, 12), `approves ${b.parents.length}`, words[b.state]])
    : s.lattice.accounts.flatMap((a) => a.blocks.map((b) => [b.seq, [a.name, `${b.kind} ${money(b.msat)}${b.to ? ` to ${b.to}` : ''}`, short(b.hash), words[b.state]]]))
      .sort((a, b) => b[0] - a[0]).slice(0, 16).map(([, row]) => row);
  for (const row of rows) {
    const tr = child(list, 'tr');
    for (const cell of row) child(tr, 'td', cell);
  }
}

// ---- elections and milestones ----

export function drawDecisions(s) {
  const list = $('decisions');
  if (s.lattice) drawElections(s, list); else if (s.tangle) drawMilestone(s, list);
}

let drawn = '';
function drawElections(s, list) {
  const mark = JSON.stringify([s.lattice.elections, s.network.nodes.map((n) => n.name)]);
  if (mark === drawn) return;
  drawn = mark;
  list.replaceChildren();
  for (const e of [...s.lattice.elections].reverse()) {
    const li = child(list, 'li', undefined, e.over ? 'over' : e.blocks > 1 ? 'fork' : 'open');
    child(li, 'b', `${e.whose}: ${e.kind}${e.blocks > 1 ? ', one of ' + e.blocks : ''}`);
    const bar = child(li, 'span', undefined, 'votes');
    bar.setAttribute('role', 'img');
    bar.setAttribute('aria-label', `Final votes of ${Math.round(100 * e.final_share)} percent; it takes ${Math.round(100 * s.network.quorum_share)}`);
    for (const v of e.votes) {
      const part = child(bar, 'i', undefined, v.other ? 'other' : v.final ? 'final' : 'first');
      part.style.setProperty('--share', v.share);
      part.title = `${v.node}: ${v.other ? 'for another block' : v.final ? 'final' : 'not final yet'}`;
    }
    child(bar, 'u').style.setProperty('--at', s.network.quorum_share);
    child(li, 'span', e.over ? `final after ${e.took_ms < 10 ? e.took_ms.toFixed(1) : Math.round(e.took_ms)} ms` : `${Math.round(100 * e.final_share)} % final so far`);
  }
}

function drawMilestone(s, list) {
  const t = s.tangle, late = t.since_milestone_ms > 2.5 * t.milestone_every_ms;
  const mark = JSON.stringify([t.milestone, Math.round(t.since_milestone_ms / 500), t.conflicting_blocks, t.tips, s.network.waiting_blocks, t.work_zeros]);
  if (mark === drawn) return;
  drawn = mark;
  list.replaceChildren();
  const card = (kind, head, text) => { const li = child(list, 'li', undefined, kind); child(li, 'b', head); child(li, 'span', text); };
  card(late ? 'fork' : 'over', `Milestone ${group(t.milestone)}`, late ? `none for ${(t.since_milestone_ms / 1000).toFixed(0)} s: nothing is confirmed` : `one every ${(t.milestone_every_ms / 1000).toFixed(1)} s, signed by ${t.threshold} of ${t.coordinators}`);
  card('open', plural(t.tips, 'tip'), `and ${group(s.network.waiting_blocks)} blocks that wait for a milestone`);
  card('over', `${group(s.network.confirmed_blocks)} confirmed`, t.conflicting_blocks ? `${group(t.conflicting_blocks)} of them changed nothing` : 'none in conflict');
  card('open', `Work: ${t.work_zeros} zero trits`, s.network.work);
}
