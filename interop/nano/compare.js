// Reads cases, as one JSON object, and prints what nanocurrency and
// nanocurrency-web make of each: for nano_npm_test.go.
'use strict';
const nc = require('nanocurrency');
const web = require('nanocurrency-web');

const zero = '0'.repeat(64);

// attempt gives an error's text instead of throwing it.
function attempt(f) {
  try { return f(); } catch (e) { return 'error: ' + e.message; }
}

function account(c) {
  const secret = nc.deriveSecretKey(c.seed, c.index);
  const other = web.wallet.legacyAccounts(c.seed, c.index, c.index)[0];
  return {
    secret, public: nc.derivePublicKey(secret), address: nc.deriveAddress(nc.derivePublicKey(secret), {useNanoPrefix: true}),
    webSecret: other.privateKey, webPublic: other.publicKey, webAddress: other.address,
  };
}

function address(c) {
  return {nc: nc.checkAddress(c.text), web: attempt(() => web.tools.validateAddress(c.text))};
}

function block(c) {
  const first = c.previous === zero;
  const made = nc.createBlock(c.secret, {
    work: c.work, balance: c.balance, representative: c.representative,
    previous: first ? null : c.previous, link: c.kind === 'change' ? null : c.link,
  });
  const both = {walletBalanceRaw: c.before, representativeAddress: c.representative, frontier: c.previous, work: c.work};
  let other;
  switch (c.kind) {
  case 'send':
    other = web.block.send({...both, fromAddress: c.account, toAddress: c.to, amountRaw: c.amount}, c.secret);
    break;
  case 'change':
    other = web.block.representative({...both, address: c.account}, c.secret);
    break;
  default:
    other = web.block.receive({...both, toAddress: c.account, transactionHash: c.link, amountRaw: c.amount}, c.secret);
  }
  const ours = {hash: c.hash, signature: c.signature, publicKey: c.public};
  return {
    hash: made.hash, signature: made.block.signature, webSignature: other.signature, webBalance: other.balance,
    takes: nc.verifyBlock(ours), takesSpoiled: nc.verifyBlock({...ours, signature: c.spoiled}),
    webTakes: web.tools.verifyBlock(c.public, {...other, signature: c.signature}),
    webTakesSpoiled: web.tools.verifyBlock(c.public, {...other, signature: c.spoiled}),
  };
}

function work(c) { return nc.validateWork({blockHash: c.root, work: c.work, threshold: c.threshold}); }

function unit(c) {
  return {
    nano: nc.convert(c.raw, {from: nc.Unit.raw, to: nc.Unit.NANO}), raw: nc.convert(c.nano, {from: nc.Unit.NANO, to: nc.Unit.raw}),
    webNano: web.tools.convert(c.raw, 'RAW', 'NANO'), webRaw: web.tools.convert(c.nano, 'NANO', 'RAW'),
  };
}

function phrase(c) {
  const w = web.wallet.fromMnemonic(c.phrase, c.passphrase);
  const a = web.wallet.accounts(w.seed, c.index, c.index)[0];
  return {seed: w.seed, secret: a.privateKey, public: a.publicKey, address: a.address};
}

let text = '';
process.stdin.on('data', (d) => { text += d; });
process.stdin.on('end', () => {
  const cases = JSON.parse(text);
  const answer = {};
  for (const [name, f] of Object.entries({account, address, block, work, unit, phrase})) {
    answer[name] = (cases[name] || []).map(f);
  }
  process.stdout.write(JSON.stringify(answer));
});
