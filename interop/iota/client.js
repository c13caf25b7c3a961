'use strict';

// Answers one question a line, in JSON: what IOTA's own client gets from a node.

const readline = require('readline');
const bigInt = require('big-integer');
const iota = require('@iota/iota.js');
const {Converter} = require('@iota/util.js');

const seed = new iota.Ed25519Seed(new Uint8Array(32).fill(7));

function first() {
  const path = iota.generateBip44Address({accountIndex: 0, addressIndex: 0, isInternal: false});
  const key = seed.generateSeedFromPath(new (require('@iota/crypto.js').Bip32Path)(path)).keyPair();
  return new iota.Ed25519Address(key.publicKey).toAddress();
}

const at = q => new iota.SingleNodeClient(q.url);

const answers = {
  address: () => Converter.bytesToHex(first()),
  health: q => at(q).health(),
  info: q => at(q).info(),
  tips: async q => (await at(q).tips()).tips,
  peers: q => at(q).peers(),
  data: async q => (await iota.sendData(at(q), q.tag, q.data)).blockId,
  block: q => at(q).block(q.id),
  raw: async q => Converter.bytesToHex(await at(q).blockRaw(q.id)),
  metadata: q => at(q).blockMetadata(q.id),
  retrieve: async q => Converter.bytesToUtf8((await iota.retrieveData(at(q), q.id)).data),
  promote: async q => (await iota.promote(at(q), q.id)).blockId,
  submitRaw: q => at(q).blockSubmitRaw(Converter.hexToBytes(q.hex)),
  milestone: q => at(q).milestoneByIndex(q.index),
  changes: q => at(q).milestoneUtxoChangesByIndex(q.index),
  output: q => at(q).output(q.id),
  included: q => at(q).transactionIncludedBlock(q.id),
  balance: async q => (await iota.addressBalance(at(q), q.address)).balance.toString(),
  total: async q => (await iota.getBalance(at(q), seed, 0)).toString(),
  send: async q => (await iota.send(at(q), seed, 0, q.address, bigInt(q.amount), {tag: 'coinop', data: q.data})).blockId,
};

readline.createInterface({input: process.stdin}).on('line', async line => {
  let answer;
  try {
    const q = JSON.parse(line);
    answer = {value: await answers[q.ask](q)};
  } catch (e) {
    answer = {error: String(e && e.stack || e)};
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
});
