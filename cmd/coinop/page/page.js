// The page of coinop demo. The server sends one State four times a second over
// /events; draw() puts it on the page. Nothing here decides anything.

import { $, group, sats, frac, money, rate, short, clock, ms, plural, single, blocks, set, vary, child, named, capital, txid } from '/words.js';
import { drawCustody, drawConsent, drawTxs, custodySentence } from '/custody.js';
import { drawNetwork, drawToggles, drawBlocks, drawDouble, drawSettled, networkSentence } from '/network.js';
import { drawPicture, drawDecisions } from '/explorer.js';

const calm = matchMedia('(prefers-reduced-motion: reduce)');
let state = null, connected = false, ended = false;
let actions = new Set();

// ---- one state onto the page ----

function draw() {
  const s = state;
  if (!s) { drawStatus(); return; }
  document.body.dataset.phase = s.phase;
  document.body.dataset.rail = s.rail;
  drawParts(s);
  document.title = s.phase === 'paying' ? `${rate(s.rate_per_s)}/s · coinop demo` : `${s.phase} · coinop demo`;
  set('what', `${s.scenario} over ${s.rail}, on this computer`);
  set('elapsed', clock(s.elapsed_s));
  set('for', s.for_s ? `of ${clock(s.for_s)}` : '');
  const steps = [...document.querySelectorAll('[data-step]')];
  const at = steps.findIndex((li) => li.dataset.step === s.phase);
  steps.forEach((li, i) => {
    li.classList.toggle('done', i < at || s.phase === 'settled');
    if (i === at) li.setAttribute('aria-current', 'step'); else li.removeAttribute('aria-current');
  });
  drawTape(s); drawStage(s); drawTotals(s); drawChain(s); drawCheat(s); drawConsent(s); drawTxs(s); drawPicture(s); drawDecisions(s); drawDouble(s); drawLog(s); drawSettlement(s); drawButtons(s); drawStatus();
}

// middle is the machine between the two, if there is one.
const middle = (s) => s.route?.router ?? s.custody?.gateway;

// drawParts shows what a demo of three machines, or over a ledger, has besides.
function drawParts(s) {
  const kind = s.route ? 'route' : s.custody ? 'custody' : s.network ? 'ledger' : 'pair';
  if ($('stage').dataset.kind === kind) return;
  $('stage').dataset.kind = kind;
  $('stage').dataset.hops = kind === 'pair' ? '1' : '2';
  for (const el of document.querySelectorAll('[data-for]')) el.hidden = !el.dataset.for.split(' ').includes(kind);
  if (kind !== 'pair') $('direct').append($('goods')); else $('money').after($('goods'));
}

// machines are those on the stage, with their ids.
const machines = (s) => [['buyer', s.buyer], ...(middle(s) ? [['router', middle(s)]] : []), ['seller', s.seller]];

const flowing = (s) => s.phase === 'paying' && s.link === 'up' && s.rate_per_s > 0 && connected &&
  machines(s).every(([, m]) => m.state === 'running');

function drawStage(s) {
  $('stage').dataset.link = s.link;
  $('stage').dataset.flow = flowing(s) ? 'on' : 'off';
  for (const [who, m] of machines(s)) {
    $(who).dataset.state = m.state;
    set(`${who}-name`, middle(s) ? capital(m.name) : m.name || who);
    set(`${who}-state`, m.state === 'killed' ? `killed (${m.kills}×)` : m.state + (m.kills ? ` · killed ${m.kills}×` : ''));
    set(`${who}-onchain`, `${group(m.onchain_sat)} sat`);
    set(`${who}-channel`, s.route ? `${sats(m.channel_msat)} sat` : money(m.channel_msat));
    set(`${who}-key`, short(m.node_key));
  }
  const last = tape.lines[0];
  const screen = (who, text, m = s[who]) => set(`${who}-screen`, m.state === 'running' ? text : m.state === 'killed' ? 'no power' : 'reading store');
  screen('buyer', money(s.price_msat));
  set('buyer-sub', `per ${single(s.unit)}`);
  screen('seller', last ? last.value : '–');
  set('seller-sub', `sells ${s.unit === 'readings' ? 'readings' : 'energy'}`);
  set('seller-name-of', last ? last.name : s.source || '\u00a0');
  const over = s.phase === 'settled';
  set('rate', over ? group(s.payments) : rate(s.rate_per_s));
  set('rate-is', over ? 'payments, one closing transaction' : 'payments a second');
  set('coin-is', `= ${plural(perToken(s.rate_per_s), 'payment')}`);
  set('parcel-is', `= the ${s.unit} they buy`);
  if (s.route) { drawRoute(s, screen, over); return; }
  if (s.custody) { drawCustody(s, screen, over); return; }
  if (s.network) { drawNetwork(s, screen, over); return; }
  const paid = s.capacity_msat ? (s.capacity_msat - s.left_msat) / s.capacity_msat : 0;
  vary($('tank').firstElementChild, '--paid', `${Math.min(100, paid * 100)}%`);
  $('tank').setAttribute('aria-label', `Channel of ${money(s.capacity_msat)}: ${money(s.left_msat)} left, ${money(s.paid_msat)} paid`);
  set('tank-left', `${money(s.left_msat)} ${over ? 'went back' : 'left to spend'}`);
  set('tank-all', `${over ? 'closed ' : ''}channel of ${money(s.capacity_msat)}`);
  set('tank-paid', `${money(s.paid_msat)} paid`);
}

function drawRoute(s, screen, over) {
  const r = s.route;
  screen('router', `${money(r.fee_base_msat)}`, r.router);
  set('router-sub', `and ${r.fee_ppm / 10000}% of it`);
  set('rate-is', over ? 'payments, through one router' : 'payments a second');
  set('buyer-channel-is', 'in channel');
  set('seller-channel-is', 'in channel');
  set('fees', money(r.fees_msat));
  set('liquidity', `The router ${over ? 'is paid out, on the chain' : r.liquidity || 'has no channel yet'}.`);
  for (const [id, c, left, right] of [['tank', r.near, s.buyer.name, r.router.name], ['far', r.far, r.router.name, s.seller.name]]) {
    vary($(id).firstElementChild, '--paid', `${c.capacity_msat ? (100 * c.far_msat) / c.capacity_msat : 0}%`);
    const hanging = over ? 'closed' : c.htlcs ? `${c.htlcs} in flight` : c.usable ? 'nothing in flight' : 'not usable';
    $(id).setAttribute('aria-label', `Channel of ${money(c.capacity_msat)}: ${left} has ${money(c.near_msat)}, ${right} ${money(c.far_msat)}; ${hanging}`);
    const tank = id === 'tank' ? 'tank' : 'far';
    set(`${tank}-left`, `${left} ${sats(c.near_msat)}`);
    set(`${tank}-all`, c.capacity_msat ? `${sats(c.capacity_msat)} sat · ${hanging}` : 'no channel yet');
    set(`${tank}-paid`, `${right} ${sats(c.far_msat)}`);
  }
}

let riskScale = 0;
function drawTotals(s) {
  set('payments', group(s.payments));
  set('payments-sub', s.phase === 'settled' ? (s.route ? 'over two channels' : s.network ? 'without a chain' : `in ${s.custody ? s.custody.mined_txs : 2} chain transactions`) : s.payments > 0 ? `${rate(s.payments / s.elapsed_s)}/s on average` : '\u00a0');
  set('paid', sats(s.paid_msat));
  set('paid-frac', s.custody ? '' : frac(s.paid_msat)); // the chain knows no fractions
  set('price', `${money(s.price_msat)} per ${single(s.unit)}`);
  set('delivered', group(s.delivered_units));
  set('unit', s.unit);
  set('source', s.source ? `from ${s.source}` : '\u00a0');
  set('risk-is', s.route ? 'Dust in flight' : s.custody ? 'Fees to the miner' : s.network ? 'Blocks' : 'At risk right now');
  set('risk-b-is', s.route ? 'now' : s.custody ? 'each' : s.network ? 'come' : named(s, 'buyer'));
  set('risk-s-is', s.route ? 'of at most' : s.custody ? 'in all' : s.network ? 'wait' : named(s, 'seller'));
  if (s.route) drawDust(s); else if (s.custody) drawFees(s); else if (s.network) drawBlocks(s); else drawRisk(s);
  for (const p of ['p50', 'p99']) {
    const n = s[`${p}_ms`];
    set(p, ms(n));
    // The ruler is logarithmic: 0.1 ms at the left, 1 s at the right; 100 s where blocks or milestones decide.
    const at = n > 0 ? (Math.log10(n) + 1) / (s.custody || s.tangle ? 6 : 4) : 0;
    vary(document.querySelector(`.ruler .${p}`), '--at', `${100 * Math.min(1, Math.max(0, at))}%`);
  }
}

// drawDust: what hangs in the router's channels and is too small for the chain
// is a promise only; each channel has a limit for it.
function drawDust(s) {
  const [now, most] = [s.at_risk_buyer_msat, s.route.max_dust_msat];
  vary($('risk'), '--b', `${most ? Math.min(100, (100 * now) / most) : 0}%`);
  vary($('risk'), '--s', '0%');
  $('risk').setAttribute('aria-label', `${money(now)} of dust in flight, of at most ${money(most)} in a channel`);
  set('risk-b', money(now));
  set('risk-s', money(most));
}

// drawFees: what a payment costs, of what it pays.
function drawFees(s) {
  const c = s.custody, each = c.mined_orders ? c.fees_sat / c.mined_orders : 0;
  const price = s.payments ? s.paid_msat / s.payments / 1000 : 0;
  vary($('risk'), '--b', `${price ? Math.min(100, (100 * each) / price) : 0}%`);
  vary($('risk'), '--s', '0%');
  $('risk').setAttribute('aria-label', `${Math.round(each)} sat of fees for a payment of ${Math.round(price)} sat`);
  set('risk-b', `${group(Math.round(each))} sat`);
  set('risk-s', `${group(c.fees_sat)} sat`);
}

function drawRisk(s) {
  const [b, r] = [s.at_risk_buyer_msat, s.at_risk_seller_msat];
  riskScale = Math.max(riskScale, 4 * s.price_msat, b, r);
  vary($('risk'), '--b', `${riskScale ? (50 * b) / riskScale : 0}%`);
  vary($('risk'), '--s', `${riskScale ? (50 * r) / riskScale : 0}%`);
  $('risk').setAttribute('aria-label', `Buyer risks ${money(b)}, seller risks ${money(r)}`);
  set('risk-b', money(b));
  set('risk-s', money(r));
}

function drawChain(s) {
  const c = s.chain, deep = c.funding_depth_blocks;
  set('tip', `height ${group(c.height)}${c.tip ? ` · tip …${c.tip.slice(-12)}` : ''}`);
  const held = s.route ? `${money(s.capacity_msat)} each` : money(s.capacity_msat);
  set('fund-note', !c.funding_txid ? 'not yet' : deep > 0 ? `${held}, ${blocks(deep)} deep` : `${held}, in no block now`);
  set('fund-is', s.route ? 'Funding outputs' : 'Funding output');
  set('chan-is', s.route ? 'Two channels' : 'Channel');
  set('close-is', s.route ? 'Closing transactions' : 'Closing transaction');
  $('c-fund').classList.toggle('on', deep > 0);
  const row = $('blocks'), show = Math.min(deep, 16);
  while (row.childElementCount > show) row.lastChild.remove();
  while (row.childElementCount < show) child(row, 'i');
  $('c-chan').classList.toggle('on', s.phase === 'paying');
  set('chan-note', { opening: 'opening', paying: `open: ${plural(s.payments, 'payment')} in it so far`, closing: 'closing', settled: `closed after ${plural(s.payments, 'payment')}`, stopped: 'not settled' }[s.phase]);
  set('chan-sub', s.phase === 'paying' ? 'None of them touches the chain.' : '');
  set('close-note', !c.close_txid ? 'not yet' : s.phase === 'settled' ? `mined; fees ${group(c.fees_sat)} sat` : 'waiting for a block');
  $('c-close').classList.toggle('on', !!c.close_txid);
  txid('fund-txid', c.funding_txid);
  txid('close-txid', c.close_txid);
  txid('fund2-txid', s.route?.far.funding_txid ?? '');
  txid('close2-txid', s.route?.far.close_txid ?? '');
}

// drawCheat tells what the router's old commitment has cost it.
function drawCheat(s) {
  const c = s.route?.cheat;
  $('cheat').hidden = !c;
  if (!c) return;
  const caught = !!c.penalty_txid;
  set('cheat-title', caught ? 'The router has cheated, and lost' : 'The router cheats');
  set('cheat-claim', `By this old state the router has ${group(c.claimed_sat)} sat, and the ${s.seller.name} not the ${group(c.owed_sat)} sat it was paid.`);
  set('cheat-penalty', caught ? `The ${s.seller.name} holds the secret by which that state was revoked, and takes what the router has by it.` : `The ${s.seller.name} looks at the chain…`);
  set('cheat-spoils', caught ? `${capital(s.seller.name)} ${group(c.seller_sat)} sat, router ${group(c.router_sat)} sat of ${group(c.capacity_sat)} sat.` : 'not decided yet');
  set('cheat-rest', caught ? `Fees ${group(c.fees_sat)} sat${c.left_sat ? `; ${group(c.left_sat)} sat in anchors that nobody has taken` : ''}.` : '');
  $('c-penalty').classList.toggle('on', caught);
  $('c-spoils').classList.toggle('on', caught);
  txid('revoked-txid', c.revoked_txid);
  txid('penalty-txid', c.penalty_txid);
}

// The tape prints at most two lines a second: more could not be read.
const tape = { lines: [], at: 0 };
function drawTape(s) {
  const now = performance.now();
  const known = tape.lines[0];
  if (known && known.at_ms > (s.readings.at(-1)?.at_ms ?? Infinity)) tape.lines = []; // another run
  const fresh = s.readings.filter((r) => !known || r.at_ms > known.at_ms);
  set('tape-note', s.rate_per_s > 2.5 ? '· two a second of them' : '');
  if (!fresh.length || (known && now - tape.at < 480)) return;
  const all = !known || s.rate_per_s <= 2.5;
  const add = all ? fresh : [fresh.findLast((r) => r.name !== known.name) ?? fresh.at(-1)];
  tape.at = now;
  tape.lines = [...add.reverse(), ...tape.lines].slice(0, 12);
  $('tape').replaceChildren();
  for (const r of tape.lines) {
    const li = child($('tape'), 'li');
    for (const t of [clock(r.at_ms / 1000), r.name, r.value, money(r.paid_msat)]) child(li, 'span', t);
  }
}

let logged = '';
function drawLog(s) {
  const mark = JSON.stringify(s.events);
  if (mark === logged) return;
  logged = mark;
  $('log').replaceChildren();
  for (const e of [...s.events].reverse()) {
    const li = child($('log'), 'li', undefined, e.level);
    child(li, 'time', clock(e.at_ms / 1000));
    child(li, 'i');
    child(li, 'span', e.text);
  }
}

function drawSettlement(s) {
  const panel = $('settlement'), c = s.chain;
  panel.hidden = s.phase !== 'settled';
  if (panel.hidden) return;
  const left = s.route?.left_sat ?? 0;
  const together = machines(s).reduce((sum, [, m]) => sum + m.onchain_sat, 0) + c.fees_sat + left;
  set('s-buyer-is', capital(named(s, 'buyer')));
  set('s-seller-is', capital(named(s, 'seller')));
  set('s-router-is', capital(middle(s)?.name ?? ''));
  set('s-router', `${group(middle(s)?.onchain_sat ?? 0)} sat`);
  set('s-payments-is', s.custody ? 'Payments on the chain' : 'Payments made off chain');
  set('s-tx-is', s.custody ? 'The last transaction' : 'Closing transaction');
  set('s-txs', group(s.custody?.mined_txs ?? 0));
  set('s-consents', `${group(s.custody?.consents ?? 0)}, and ${plural(s.custody?.lies_signed ?? 0, 'lie')} signed`);
  $('s-left').hidden = $('s-left-label').hidden = !left;
  set('s-left', `${group(left)} sat`);
  set('s-txid2', s.route?.far.close_txid ?? '');
  $('s-txid2').dataset.full = s.route?.far.close_txid ?? '';
  set('s-payments', group(s.payments));
  set('s-delivered', `${group(s.delivered_units)} ${s.unit}`);
  set('s-paid', `${sats(s.paid_msat)}${frac(s.paid_msat)} sat`);
  set('s-buyer', `${group(s.buyer.onchain_sat)} sat`);
  set('s-seller', `${group(s.seller.onchain_sat)} sat`);
  set('s-fees', `${group(c.fees_sat)} sat`);
  set('s-total', `${group(together)} sat`);
  $('s-start').hidden = $('s-start-label').hidden = !c.start_sat && !s.network;
  set('s-start', `${group(c.start_sat)} sat`);
  set('s-txid', c.close_txid);
  $('s-txid').dataset.full = c.close_txid;
  for (const el of document.querySelectorAll('.read-back')) el.textContent = s.network ? 'read back from every node' : 'read back from the chain';
  set('s-fees-is', s.network ? 'Fees' : 'Fees to the miner');
  if (s.network) drawSettled(s);
  const stamp = $('stamp');
  stamp.className = `stamp ${c.conserved === true ? '' : c.conserved === false ? 'bad' : 'wait'}`;
  const exactly = !s.network ? 'satoshi' : s.network.ledger_unit === 'raw' ? 'raw' : 'base unit';
  set('stamp', c.conserved === true ? `✓ conserved to the ${exactly}` : c.conserved === false ? '✗ sums differ' : s.network ? 'asking the nodes…' : 'reading the chain…');
}

// ---- what it means, in one sentence ----

function sentence(s) {
  if (ended) return ['The demo has ended. Start it again with coinop demo: this page will follow.', 'wait'];
  if (!connected || !s) return [s ? 'Connection to the demo lost; trying again. These are its last numbers.' : 'Connecting to the demo…', 'wait'];
  const risk = money(Math.max(s.at_risk_buyer_msat, s.at_risk_seller_msat));
  const special = custodySentence(s) ?? networkSentence(s);
  if (special) return special;
  if (s.phase === 'opening' && s.route) return [s.route.near.capacity_msat ? 'Both channels are funded. A public one is announced when it is six blocks deep.' : 'The router and the car lock their money in funding outputs on the chain.', 'wait'];
  if (s.phase === 'closing' && s.route) return ['Closing: in each channel both sign one last transaction.', 'wait'];
  if (s.phase === 'settled' && s.route && s.chain.conserved) return ['Settled: both closing transactions are mined, and all three balances were read back from the chain.', 'ok'];
  switch (s.phase) {
    case 'opening': return [s.chain.funding_txid ? 'The funding transaction waits for its blocks. Then paying begins.' : 'The buyer locks its money in a funding output on the chain.', 'wait'];
    case 'closing': return ['Closing: the last ticket becomes the closing transaction.', 'wait'];
    case 'settled': return s.chain.conserved === false
      ? ['Settled, but the balances on the chain do not add up. That is a bug: please report it.', 'warn']
      : ['Settled: the closing transaction is mined, and both balances were read back from the chain.', 'ok'];
    case 'stopped': return ['Stopped before settling. The tickets are in the machines’ stores and stay valid.', 'warn'];
  }
  for (const [who, m] of machines(s)) {
    const others = machines(s).filter(([id]) => id !== who).map(([id, o]) => `the ${o.name || id}`).join(' and ');
    const name = m.name || who;
    if (m.state === 'killed') return [`The ${name} is killed. ${capital(others)} wait${middle(s) ? '' : 's'}; ${middle(s) ? 'all that is signed' : 'every signed ticket'} is in a store, nothing is lost.`, 'warn'];
    if (m.state === 'restarting') return [`The ${name} restarts: it reads its store and goes on where it stopped.`, 'wait'];
  }
  if (s.link === 'down' && middle(s)) return [`The link between ${s.buyer.name} and ${middle(s).name} is down: payments wait, nothing is lost.`, 'warn'];
  if (s.link === 'down') return [`Link down: the ${named(s, 'seller')} waits, nothing is lost. At stake is ${risk}.`, 'warn'];
  if (s.route?.cheat && !s.route.cheat.penalty_txid) return ['The router has published a commitment that it had revoked. Whoever sees it may take everything.', 'warn'];
  if (s.route?.cheat && !s.route.far.usable) return [`The ${s.seller.name} has taken everything. The router must fund a new channel.`, 'warn'];
  if (s.custody) return s.rate_per_s === 0 ? ['Connected; the first payments wait for a block.', 'wait'] : ['Paying on the chain. The gateway sees and proposes everything; only the meter can sign, and it signs what it can check.', 'ok'];
  if (s.chain.funding_txid && s.chain.funding_depth_blocks < 1) return ['Reorg: the funding is in no block now. It waits to be mined again.', 'warn'];
  if (s.rate_per_s === 0) return ['Connected; the next payment is about to start.', 'wait'];
  if (s.route) return ['Paying. The router sees an onion, an amount and the next hop: not who pays, nor what for, nor whether it goes further.', 'ok'];
  return [`Paying. Each ${s.unit === 'readings' ? 'reading' : 'slice of energy'} is handed over when it is paid, so neither side ever risks more than a few.`, 'ok'];
}

function drawStatus() {
  const [text, tone] = sentence(state);
  set('status', text);
  $('status').dataset.tone = tone;
}

// ---- coins ----

// perToken is how many payments one coin stands for: 1, 2, 5, 10, 20 … so that
// at most a dozen coins start each second (half of that on a phone, and four if
// they are wrapped).
const narrow = matchMedia('(max-width: 560px)');
function perToken(r) {
  const most = state?.route ? 4 : narrow.matches ? 6 : 12;
  for (let unit = 1; ; unit *= 10) {
    for (const k of [1, 2, 5]) if (r / (unit * k) <= most) return unit * k;
  }
}

let owed = 0, before = performance.now();
function mint() {
  const now = performance.now(), dt = Math.min(0.25, (now - before) / 1000);
  before = now;
  if (!state || calm.matches || document.hidden || !flowing(state)) { owed = 0; return; }
  owed += (state.rate_per_s / perToken(state.rate_per_s)) * dt;
  for (; owed >= 1; owed--) {
    const hops = state.route ? [['money', 'coin onion whole'], ['money-far', 'coin onion']] : state.custody || state.network ? [['money', 'coin'], ['money-far', 'coin']] : [['money', 'coin']];
    for (const [lane, kind] of [...hops, ['goods', 'parcel']]) {
      const token = child($(lane), 'i', undefined, kind);
      if (kind !== 'parcel') vary(token, 'margin-top', `${(Math.random() - 0.5) * 10}px`);
      token.addEventListener('animationend', () => token.remove());
    }
  }
  for (const lane of ['money', 'money-far', 'goods']) while ($(lane).childElementCount > 60) $(lane).firstChild.remove();
}
setInterval(mint, 40);

// ---- chart ----

const chart = $('chart');
let points = [], hover = null;
const NS = 'http://www.w3.org/2000/svg';
function svg(tag, attrs, text) {
  const el = chart.appendChild(document.createElementNS(NS, tag));
  for (const [k, v] of Object.entries(attrs)) el.setAttribute(k, v);
  if (text !== undefined) el.textContent = text;
}
function ceiling(n) { // the next of 1, 2, 4, 6, 8, 10 times a power of ten
  const p = 10 ** Math.floor(Math.log10(Math.max(n, 1)));
  return [1, 2, 4, 6, 8, 10].map((k) => k * p).find((c) => c >= n);
}
function drawChart() {
  const w = chart.clientWidth, h = chart.clientHeight, pad = { l: 54, r: 14, t: 16, b: 22 };
  if (!w) return;
  chart.setAttribute('viewBox', `0 0 ${w} ${h}`);
  chart.replaceChildren();
  const end = Math.max(60, points.at(-1)?.[0] ?? 0), top = ceiling(Math.max(state?.custody ? 1 : 4, ...points.map((p) => p[1])) * 1.04);
  const x = (t) => pad.l + ((t - end + 60) / 60) * (w - pad.l - pad.r);
  const y = (v) => h - pad.b - (v / top) * (h - pad.t - pad.b);
  for (const f of [0, 0.5, 1]) {
    svg('line', { class: 'grid', x1: pad.l, x2: w - pad.r, y1: y(f * top), y2: y(f * top) });
    svg('text', { x: pad.l - 8, y: y(f * top) + 4, 'text-anchor': 'end' }, group(f * top));
  }
  for (const t of w < 500 ? [0, 30, 60] : [0, 15, 30, 45, 60]) svg('text', { x: x(end - 60 + t), y: h - 5, 'text-anchor': t === 60 ? 'end' : t ? 'middle' : 'start' }, clock(end - 60 + t));
  for (const e of state?.events ?? []) {
    const t = e.at_ms / 1000;
    if (e.level !== 'warn' || t < end - 60) continue;
    svg('line', { class: 'mark', x1: x(t), x2: x(t), y1: pad.t - 6, y2: h - pad.b });
    svg('path', { class: 'flag', d: `M${x(t)} ${pad.t - 12}l9 4l-9 4z` });
  }
  const seen = points.filter((p) => p[0] >= end - 60);
  if (!seen.length) return;
  const last = seen.at(-1), line = seen.map((p, i) => `${i ? 'L' : 'M'}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join('');
  svg('path', { class: 'area', d: `${line}L${x(last[0])} ${y(0)}L${x(seen[0][0])} ${y(0)}Z` });
  svg('path', { class: 'line', d: line });
  svg('circle', { class: 'now', cx: x(last[0]), cy: y(last[1]), r: 4 });
  if (hover === null) return;
  const near = seen.reduce((a, b) => (Math.abs(x(b[0]) - hover) < Math.abs(x(a[0]) - hover) ? b : a));
  const hx = x(near[0]);
  svg('line', { class: 'hair', x1: hx, x2: hx, y1: pad.t, y2: h - pad.b });
  svg('text', { class: 'tip', x: hx > w / 2 ? hx - 8 : hx + 8, y: pad.t + 12, 'text-anchor': hx > w / 2 ? 'end' : 'start' }, `${rate(near[1])}/s at ${clock(near[0])}`);
}
chart.addEventListener('pointermove', (e) => { hover = e.offsetX; drawChart(); });
chart.addEventListener('pointerleave', () => { hover = null; drawChart(); });
new ResizeObserver(drawChart).observe(chart);

// ---- buttons ----

const pushed = new Set();
function drawButtons(s) {
  const over = !connected || ['settled', 'stopped'].includes(s.phase);
  for (const b of document.querySelectorAll('[data-do]')) {
    const name = b.dataset.do;
    b.hidden = !actions.has(name);
    b.disabled = over;
    b.setAttribute('aria-busy', pushed.has(name));
  }
  for (const el of document.querySelectorAll('[data-name]')) el.textContent = named(s, el.dataset.name);
  if (middle(s)) set('seller-hint', 'It restarts and knows which orders are paid.');
  if (s.custody) set('mine-hint', 'What waits in the mempool settles.');
  document.querySelector('[data-do=slow]').classList.toggle('on', !!s.custody?.full_msat_per_vb);
  if (s.network) drawToggles(s);
  const down = s.link === 'down';
  set('link-label', down ? 'Restore the link' : 'Cut the link');
  set('link-hint', `Paying ${down ? '' : 'stops, then '}goes on where it stopped.`);
  document.querySelector('[data-do=link]').classList.toggle('on', down);
}

async function push(name) {
  if (pushed.has(name)) return;
  pushed.add(name);
  draw();
  try {
    const answer = await fetch(`/do/${name}`, { method: 'POST' });
    if (!answer.ok) toast((await answer.json().catch(() => ({}))).detail ?? `${name}: error ${answer.status}`);
  } catch {
    toast('The demo does not answer.');
  }
  pushed.delete(name);
  draw();
}

let hide;
function toast(text) {
  set('toast', text);
  $('toast').classList.add('show');
  clearTimeout(hide);
  hide = setTimeout(() => { $('toast').classList.remove('show'); set('toast', ''); }, 6000);
}

document.addEventListener('click', async (e) => {
  const b = e.target.closest('button');
  if (b?.dataset.do) push(b.dataset.do);
  if (b?.dataset.copy) {
    try {
      await navigator.clipboard.writeText($(b.dataset.copy).dataset.full);
      b.textContent = 'copied';
    } catch {
      getSelection().selectAllChildren($(b.dataset.copy));
      b.textContent = 'press Ctrl+C';
    }
    setTimeout(() => { b.textContent = 'copy'; }, 1500);
  }
});

// ---- light and dark ----

const dark = matchMedia('(prefers-color-scheme: dark)');
function theme(choice) {
  document.documentElement.style.colorScheme = choice ?? '';
  set('theme', (choice ?? (dark.matches ? 'dark' : 'light')) === 'dark' ? 'Light' : 'Dark');
}
$('theme').addEventListener('click', () => {
  const next = $('theme').textContent.toLowerCase();
  try { localStorage.setItem('theme', next); } catch { /* private window: it lasts until reload */ }
  theme(next);
});
const kept = () => { try { return localStorage.getItem('theme') ?? undefined; } catch { return undefined; } };
dark.addEventListener('change', () => theme(kept()));
theme(kept());

// ---- the stream ----

function listen() {
  const stream = new EventSource('/events');
  stream.addEventListener('hello', (e) => {
    const hello = JSON.parse(e.data);
    connected = true; ended = false;
    actions = new Set(hello.actions);
    points = (hello.resumed ? points : []).concat(hello.points).slice(-240);
    if (!hello.resumed) riskScale = 0;
  });
  stream.onmessage = (e) => {
    state = JSON.parse(e.data);
    const last = points.at(-1)?.[0] ?? -1;
    if (state.elapsed_s < last) points = []; // another run
    if (state.elapsed_s !== last) points = [...points, [state.elapsed_s, state.rate_per_s]].slice(-240);
    draw();
    if (!document.hidden) drawChart();
  };
  stream.addEventListener('bye', () => { stream.close(); connected = false; ended = true; draw(); setTimeout(listen, 3000); });
  stream.onerror = () => {
    connected = false;
    draw();
    // A refusal (too many viewers, or no server yet) closes an EventSource for good.
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  };
}
listen();
