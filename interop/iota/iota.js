'use strict';

// Answers one question a line, in JSON: what IOTA's own libraries make of what
// coinop has made. Numbers of 64 bits are strings.

const readline = require('readline');
const {trits, trytes} = require('@iota/converter');
const Kerl = require('@iota/kerl').default;
const Curl = require('@iota/curl').default;
const signing = require('@iota/signing');
const {addChecksum} = require('@iota/checksum');
const {finalizeBundle} = require('@iota/bundle');
const {transactionHash} = require('@iota/transaction');
const iota = require('@iota/iota.js');
const {Converter, ReadStream, WriteStream} = require('@iota/util.js');

const HASH = 243;
const FRAGMENT = 6561;

function sponge(Sponge, text, blocks) {
  const s = new Sponge(), input = trits(text), out = new Int8Array(blocks * HASH);
  s.initialize();
  s.absorb(input, 0, input.length);
  s.squeeze(out, 0, out.length);
  return trytes(out);
}

function pieces(array, size) {
  const all = [];
  for (let i = 0; i < array.length; i += size) all.push(array.slice(i, i + size));
  return all;
}

function binary(write, model) {
  const w = new WriteStream();
  write(w, model);
  return Converter.bytesToHex(w.finalBytes());
}

const answers = {
  kerl: q => sponge(Kerl, q.trytes, q.blocks),
  curl: q => sponge(Curl, q.trytes, q.blocks),
  checksum: q => addChecksum(q.trytes),
  normalised: q => Array.from(signing.normalizedBundle(trits(q.trytes))),
  address: q => {
    const key = signing.key(signing.subseed(trits(q.seed), q.index), q.security);
    return trytes(signing.address(signing.digests(key)));
  },
  sign: async q => {
    const s = await signing.signatureFragments(trits(q.seed), q.index, q.security, trits(q.trytes));
    return pieces(s, FRAGMENT).map(f => trytes(f));
  },
  validate: q => signing.validateSignatures(trits(q.address), q.fragments.map(f => trits(f)), trits(q.trytes)),
  bundle: q => pieces(finalizeBundle(trits(q.trytes)), 8019).map(t => trytes(t)),
  transaction: q => trytes(transactionHash(trits(q.trytes))),

  decode: q => iota.deserializeBlock(new ReadStream(Converter.hexToBytes(q.hex))),
  encode: q => binary(iota.serializeBlock, q.block),
  blockId: q => iota.TransactionHelper.calculateBlockId(q.block),
  transactionId: q => iota.TransactionHelper.transactionIdFromTransactionPayload(q.block.payload),
  essenceHash: q => Converter.bytesToHex(iota.TransactionHelper.getTransactionEssenceHash(q.block.payload.essence)),
  commitment: q => iota.TransactionHelper.getInputsCommitment(q.outputs),
  milestoneId: q => iota.milestoneIdFromMilestonePayload(q.block.payload),
  networkId: q => iota.TransactionHelper.networkIdFromNetworkName(q.name),
  bech32: q => iota.Bech32Helper.toBech32(iota.ED25519_ADDRESS_TYPE, Converter.hexToBytes(q.hex), q.name),
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
