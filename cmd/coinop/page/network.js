// What a demo over a ledger has besides: nodes that keep it, votes or milestones that
// decide, and no chain.

import { $, group, money, ms, plural, set, vary, rate, capital, named } from '/words.js';

const NS = 'http://www.w3.org/2000/svg';
const percent = (part, whole) => `${whole ? Math.min(100, Math.max(0, (100 * part) / whole)) : 0}%`;
const alive = (n) => n.state === 'running';

// drawNetwork draws its part of the stage.
export function drawNetwork(s, screen, over) {
  const n = s.network, up = n.nodes.filter(alive).length;
  $('network').dataset.state = n.split ? 'split' : up < n.nodes.length ? 'hurt' : 'whole';
  set('network-state', n.split ? 'partitioned' : `${up} of ${n.nodes.length} run`);
  drawNodes(n, s);
  set('buyer-channel-is', 'by the ledger');
  set('seller-channel-is', 'by the ledger');
  for (const who of ['buyer', 'seller']) set(`${who}-channel`, money(s[who].holds_msat));
  set('rate-is', over ? `payments, ${group(n.blocks)} blocks` : 'payments a second');
  set('fees', n.confirm_p50_ms > 0 ? ms(n.confirm_p50_ms) : '–');
  set('fees-is', s.tangle ? 'until a milestone confirms' : 'until it is final');
  set('far-legend', 'no fee, no miner');
  set('direct-is', 'the plain link: prices, bills, goods');
  const both = s.buyer.holds_msat + s.seller.holds_msat;
  vary($('tank').firstElementChild, '--paid', percent(s.seller.holds_msat, both));
  $('tank').setAttribute('aria-label', `The ledger has ${money(s.buyer.holds_msat)} for the ${s.buyer.name} and ${money(s.seller.holds_msat)} for the ${s.seller.name}`);
  set('tank-left', `${named(s, 'buyer')} ${money(s.buyer.holds_msat)}`);
  set('tank-all', 'fees 0');
  set('tank-paid', `${named(s, 'seller')} ${money(s.seller.holds_msat)}`);
  const what = s.tangle ? 'coordinators' : 'votes', enough = n.online_share >= n.quorum_share && !n.split;
  vary($('far').firstElementChild, '--paid', percent(n.online_share, 1));
  vary($('far'), '--quorum', percent(n.quorum_share, 1));
  $('far').classList.toggle('short', !enough);
  $('far').setAttribute('aria-label', `${Math.round(100 * n.online_share)} percent of the ${what} are there; it takes ${Math.round(100 * n.quorum_share)}`);
  set('far-left', `${Math.round(100 * n.online_share)} % of ${what} here`);
  set('far-all', '');
  set('far-paid', `it takes ${Math.round(100 * n.quorum_share)} %`);
  set('liquidity', s.tangle
    ? 'Every block approves others; the coordinators sign milestones, which say what counts. They cannot change a payment.'
    : 'Each account has its own chain; representatives vote on which block is next. Two final votes for one place would be a proof against them.');
}

// drawNodes draws the network: lines are connections.
function drawNodes(n, s) {
  const g = $('nodes'), mark = JSON.stringify([n.nodes, n.split, s.tangle?.milestone]);
  if (g.dataset.mark === mark) return;
  g.dataset.mark = mark;
  g.replaceChildren();
  const add = (tag, attrs, text) => {
    const el = g.appendChild(document.createElementNS(NS, tag));
    for (const [k, v] of Object.entries(attrs)) el.setAttribute(k, v);
    if (text !== undefined) el.textContent = text;
    return el;
  };
  const all = n.nodes.length, W = 240, H = 112;
  // Those of one side stand together.
  const sides = [n.nodes.filter((x) => !x.side), n.nodes.filter((x) => x.side)];
  const at = (node) => {
    const own = sides[node.side ? 1 : 0], row = own.indexOf(node);
    return [node.side ? W - 78 : 78, own.length > 1 ? 22 + (row * (H - 44)) / (own.length - 1) : H / 2];
  };
  for (let i = 0; i < all; i++) {
    for (let k = 0; k < i; k++) {
      const [a, b] = [n.nodes[i], n.nodes[k]], [x1, y1] = at(a), [x2, y2] = at(b);
      const cut = n.split && a.side !== b.side;
      add('line', { class: cut || !alive(a) || !alive(b) ? 'wire off' : 'wire', x1, y1, x2, y2 });
    }
  }
  if (n.split) add('line', { class: 'rift', x1: W / 2, x2: W / 2, y1: 6, y2: H - 6 });
  for (const node of n.nodes) {
    const [x, y] = at(node);
    const state = node.state !== 'running' ? node.state : node.silent ? 'silent' : node.behind > 3 ? 'behind' : 'running';
    const el = add('g', { class: `node ${state}`, transform: `translate(${x} ${y})` });
    const sub = (tag, attrs, text) => { const c = el.appendChild(document.createElementNS(NS, tag)); for (const [k, v] of Object.entries(attrs)) c.setAttribute(k, v); if (text !== undefined) c.textContent = text; };
    sub('circle', { r: 13 });
    if (node.role === 'coordinator') sub('path', { class: 'crown', d: 'M0 -6L6 0L0 6L-6 0Z' });
    else sub('text', { class: 'in', y: 4, 'text-anchor': 'middle' }, node.role ? `${Math.round(100 * node.share)}` : '');
    const aside = { x: node.side ? 20 : -20, 'text-anchor': node.side ? 'start' : 'end' };
    const says = state === 'behind' ? `${group(node.behind)} behind` : state !== 'running' ? state : node.kills ? `killed ${node.kills}×` : '';
    sub('text', { ...aside, y: says ? -3 : 4 }, node.name);
    if (says) sub('text', { class: 'says', ...aside, y: 11 }, says);
  }
  g.setAttribute('aria-label', `${plural(all, 'node')}: ` + n.nodes.map((x) => `${x.name} ${x.silent ? 'is silent' : x.state}${x.role ? `, a ${x.role}${x.share ? ` with ${Math.round(100 * x.share)} percent of the votes` : ''}` : ''}`).join('; ') + (n.split ? '. The network is partitioned.' : '.'));
}

// drawToggles says what the buttons do now.
export function drawToggles(s) {
  const split = s.network.split, silent = s.network.nodes.some((n) => n.silent);
  set('split-label', split ? 'Heal the network' : 'Partition the network');
  set('split-hint', split ? 'All hear each other again, and go on.' : 'Two halves that do not hear each other.');
  set('silence-label', silent ? 'Let the coordinator speak' : 'Silence the coordinator');
  document.querySelector('[data-do=split]').classList.toggle('on', split);
  document.querySelector('[data-do=silence]').classList.toggle('on', silent);
  set('seller-hint', 'It restarts and knows which orders are paid.');
}

// drawBlocks takes the place of what is at risk.
export function drawBlocks(s) {
  const n = s.network;
  vary($('risk'), '--b', percent(n.waiting_blocks, Math.max(40, n.waiting_blocks)));
  vary($('risk'), '--s', '0%');
  $('risk').setAttribute('aria-label', `${rate(n.blocks_per_s)} blocks a second; ${n.waiting_blocks} wait`);
  set('risk-b', `${rate(n.blocks_per_s)}/s`);
  set('risk-s', `${group(n.waiting_blocks)} of ${group(n.blocks)}`);
}

// drawDouble tells of the newest attempt to spend twice.
export function drawDouble(s) {
  const d = s.network?.last_double_spend;
  $('double').hidden = !d;
  if (!d) return;
  const all = s.network.nodes.length;
  $('double').dataset.state = d.wins ? 'won' : 'open';
  set('double-is', d.wins ? `Spent twice, paid once${s.network.double_spends > 1 ? ` (${s.network.double_spends} tries)` : ''}` : 'Spent twice: nobody knows yet');
  set('double-text', `The same money to ${d.a}, told to ${d.node_a}, and to ${d.b}, told to ${d.node_b}. ` +
    (d.wins ? `${capital(d.wins)} is paid, on ${d.nodes} of ${all} nodes; the other payment never was.` : `Neither is paid before it is ${s.tangle ? 'in a milestone' : 'voted'}.`));
}

// drawSettled puts what the nodes say onto the slip.
export function drawSettled(s) {
  const n = s.network;
  set('settled-title', 'Settled on the ledger');
  set('s-payments-is', 'Payments on the ledger');
  for (const who of ['buyer', 'seller']) {
    set(`s-${who}-is`, capital(named(s, who)));
    set(`s-${who}`, money(s[who].holds_msat));
  }
  set('s-fees', '0');
  set('s-agree', `${n.nodes_agree} of ${n.nodes.length}, to the last ${n.ledger_unit === 'raw' ? 'raw' : 'unit'}`);
  set('s-held', money(n.held_msat));
  set('s-total', money(s.buyer.holds_msat + s.seller.holds_msat + n.held_msat));
  set('s-start', money(n.given_msat));
}

// networkSentence is what it means now.
export function networkSentence(s) {
  const n = s.network;
  if (!n) return undefined;
  const dead = n.nodes.find((x) => x.state !== 'running'), lag = n.nodes.find((x) => x.behind > 3 && alive(x)), silent = n.nodes.find((x) => x.silent);
  switch (s.phase) {
    case 'opening': return [n.nodes.some(alive) ? 'The nodes find each other; the buyer gets its money from the genesis account.' : 'The nodes of the network start, each with its own key and store.', 'wait'];
    case 'closing': return ['Closing: what is on its way becomes final.', 'wait'];
    case 'settled': return s.chain.conserved === false
      ? ['Settled, but the balances do not add up. That is a bug: please report it.', 'warn']
      : [`Settled: the balances were read back from ${n.nodes_agree} of ${plural(n.nodes.length, 'node')}, and are the same.`, 'ok'];
    case 'paying': break;
    default: return undefined;
  }
  for (const who of ['buyer', 'seller']) if (s[who].state !== 'running') return undefined;
  if (n.split) return [s.tangle ? 'The network is partitioned: the side without enough coordinators confirms nothing. Neither undoes anything.' : 'The network is partitioned: neither side has votes enough, so nothing becomes final, and nothing is undone.', 'warn'];
  if (silent) return [`${capital(silent.name)}, the coordinator, is silent: blocks come, and none is confirmed until it speaks again.`, 'warn'];
  if (dead) return [n.online_share < n.quorum_share ? `${capital(dead.name)} is ${dead.state}, and without it there are not votes enough: payments wait.` : `${capital(dead.name)} is ${dead.state}. The others have ${Math.round(100 * n.online_share)} % and need ${Math.round(100 * n.quorum_share)}: paying goes on.`, 'warn'];
  if (lag) return [`${capital(lag.name)} is back and asks the others for what it has missed: ${plural(lag.behind, s.tangle ? 'milestone' : 'block')}.`, 'wait'];
  if (s.link === 'down') return undefined;
  if (n.last_double_spend && !n.last_double_spend.wins) return ['Two payments of the same money are on their way. The nodes decide which one there was.', 'warn'];
  if (s.rate_per_s === 0) return ['Connected; the first payments wait until they are final.', 'wait'];
  return [s.tangle ? 'Paying. Each payment is in a block that approves others; a milestone confirms it, and many with it.' : 'Paying. Each payment is a block of the buyer’s own chain, and final when two thirds of the votes say so.', 'ok'];
}
