// What a demo over the chain has besides: a gateway that sees the chain and has
// no keys, and a meter that has the key and sees no chain.

import { $, group, sats, plural, set, vary, child, short, txid } from '/words.js';

const percent = (part, whole) => `${whole ? Math.min(100, Math.max(0, (100 * part) / whole)) : 0}%`;

// drawCustody draws its part of the stage.
export function drawCustody(s, screen, over) {
  const c = s.custody;
  set('router-top', 'may sign');
  screen('router', 'nothing', c.gateway);
  set('router-sub', 'it has public keys only');
  set('router-channel-is', 'private keys');
  set('router-channel', c.gateway_records ? `${c.gateway_private_records} in ${group(c.gateway_records)} records` : '–');
  set('buyer-channel-is', 'consents');
  set('buyer-channel', group(c.consents));
  set('seller-channel-is', 'orders in blocks');
  set('seller-channel', group(c.mined_orders));
  set('rate-is', over ? 'payments, each on the chain' : 'payments a second');
  set('fees', group(c.mined_txs));
  set('fees-is', c.mined_txs ? `transactions of ${(c.mined_orders / c.mined_txs).toFixed(1)} payments` : 'transactions in blocks');
  set('far-legend', 'signed by the meter');
  set('direct-is', 'the plain link: prices, addresses, goods');
  const spent = c.per_day_msat - c.left_msat;
  vary($('tank').firstElementChild, '--paid', percent(spent, c.per_day_msat));
  $('tank').setAttribute('aria-label', `Of ${sats(c.per_day_msat)} sat a day ${sats(c.left_msat)} sat are left`);
  set('tank-left', `${sats(c.left_msat)} sat left of a day`);
  set('tank-all', `at most ${sats(c.per_payment_msat)} a payment`);
  set('tank-paid', `${sats(spent)} spent`);
  vary($('far').firstElementChild, '--paid', percent(s.seller.onchain_sat, s.chain.start_sat));
  $('far').setAttribute('aria-label', `On the chain the ${s.buyer.name} has ${group(s.buyer.onchain_sat)} sat, the ${s.seller.name} ${group(s.seller.onchain_sat)} sat`);
  set('far-left', `${s.buyer.name} ${group(s.buyer.onchain_sat)}`);
  set('far-all', `fees ${group(c.fees_sat)}`);
  set('far-paid', `${s.seller.name} ${group(s.seller.onchain_sat)}`);
  set('liquidity', 'The gateway finds coins, builds, publishes and bumps. The meter decides.');
}

// drawConsent tells who knows what, and what became of the lies.
export function drawConsent(s) {
  const c = s.custody;
  $('consent').hidden = !c;
  if (!c) return;
  set('knows', `Every address and amount of account ${c.account}, by its public descriptor. ${c.gateway_records ? `Of ${plural(c.gateway_records, 'record')} on its disk, ${c.gateway_private_records} hold a private key.` : ''}`);
  txid('descriptor', c.descriptor);
  set('checks', `${plural(c.consents, 'consent')}, numbered; ${plural(c.bumps, 'bump')} among them. It believes no word of the gateway: it follows each coin to its own block headers, up to block ${group(c.device_tip)}.`);
  set('limits', `Limits: ${sats(c.per_payment_msat)} sat a payment, ${sats(c.per_day_msat)} sat a day, ${sats(c.max_fee_msat)} sat of fees a transaction.`);
  const last = c.last_refusal, told = (c.refusals ?? []).reduce((n, r) => n + r.count, 0);
  $('c-lie').classList.toggle('bad', c.lies_signed > 0);
  $('c-lie').classList.toggle('on', told > 0 && !c.lies_signed);
  set('lie-is', told ? `${plural(told, 'lie')} refused, ${c.lies_signed} signed` : 'No lie told yet');
  set('lie-told', last ? `The gateway: ${last.lie}.` : 'Let the gateway lie, and see.');
  set('lie-why', last ? `The meter: ${last.text}` : '');
  const chips = $('lies');
  const mark = JSON.stringify(c.refusals);
  if (chips.dataset.mark === mark) return;
  chips.dataset.mark = mark;
  chips.replaceChildren();
  for (const r of c.refusals ?? []) child(chips, 'i', r.count > 1 ? `${r.reason} ×${r.count}` : r.reason).title = r.lie;
}

const states = { proposed: 'waits for consent', published: 'waits for a block', bumping: 'a higher fee waits for consent' };

// drawTxs lists the newest transactions.
let listed = '';
export function drawTxs(s) {
  const c = s.custody;
  if (!c) return;
  const mark = JSON.stringify([c.txs, c.full_msat_per_vb]);
  if (mark === listed) return;
  listed = mark;
  $('txs').replaceChildren();
  for (const t of [...(c.txs ?? [])].reverse()) {
    const full = c.full_msat_per_vb && t.state === 'published';
    const li = child($('txs'), 'li', undefined, t.state === 'mined' ? 'on' : full || t.state === 'bumping' ? 'late' : '');
    child(li, 'code', short(t.txid)).title = t.txid;
    child(li, 'span', plural(t.orders, 'payment'));
    child(li, 'span', `fee ${group(t.fee_sat)} sat${t.versions > 1 ? `, bumped ${t.versions - 1}×` : ''}`);
    child(li, 'span', t.state === 'mined' ? `block ${group(t.height)}` : full ? `left out: blocks ask for ${c.full_msat_per_vb / 1000} sat/vB` : states[t.state] ?? t.state);
  }
}

// custodySentence is what it means now, if that is special; else nothing.
export function custodySentence(s) {
  const c = s.custody;
  if (!c) return undefined;
  if (c.lies_signed) return ['The meter has signed a lie. That is a bug: please report it.', 'warn'];
  if (s.phase === 'opening') return [c.descriptor ? 'The faucet pays the meter; the gateway sees it, by a public descriptor.' : 'The meter claims an account at the gateway. Its key stays where it is.', 'wait'];
  if (s.phase === 'closing') return ['Closing: the last transactions get their blocks.', 'wait'];
  if (s.phase === 'settled' && s.chain.conserved) return ['Settled: every payment is in a block, and all balances were read back from the chain.', 'ok'];
  if (s.phase === 'paying' && s.link === 'up' && c.full_msat_per_vb) return [`Blocks are full and ask for ${c.full_msat_per_vb / 1000} sat/vB. The gateway must propose a higher fee, and the meter consent again.`, 'warn'];
  return undefined;
}
