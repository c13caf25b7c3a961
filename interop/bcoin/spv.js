// A bcoin SPV node with one key, told what to do by lines on its standard input
// and telling what it sees by lines on its standard output, each a JSON object.
//
//   node spv.js host:port http-port
//
// It connects to that peer only and keeps its chain in memory. It ends with its
// input.
'use strict';

const readline = require('readline');

// bcoin's native parts are not built: its own JavaScript does the same, and the
// store on disk is not needed, because the chain is in memory.
process.env.NODE_BACKEND = 'js';
const level = require.resolve('leveldown');
require.cache[level] = {id: level, filename: level, loaded: true, exports: {}};

const {SPVNode, KeyRing, MTX, util} = require('bcoin');

const [peer, httpPort] = process.argv.slice(2);
const node = new SPVNode({
  config: false, argv: [], env: {}, network: 'regtest', memory: true, logConsole: true, logLevel: 'info', logFile: false,
  only: [peer], httpHost: '127.0.0.1', httpPort: Number(httpPort), noAuth: true, workers: false
});
const ring = KeyRing.generate('regtest');
ring.witness = true;

const say = object => process.stdout.write(JSON.stringify(object) + '\n');

// What a block has for us: the transactions it came with, and the ids that its
// Merkle proof leads to, worked out again by bcoin from the header's root.
function told(event, entry, block) {
  const tree = block.verifyBody() ? block.getTree() : {matches: []};
  say({
    event, height: entry.height, hash: entry.rhash(),
    proven: tree.matches.map(id => util.revHex(id.toString('hex'))),
    txs: block.txs.map(tx => tx.txid())
  });
  for (const tx of block.txs)
    seen.set(tx.txid(), tx);
}

const seen = new Map();
node.on('connect', (entry, block) => told('connect', entry, block));
node.on('disconnect', entry => say({event: 'disconnect', height: entry.height, hash: entry.rhash()}));
node.on('reset', tip => say({event: 'reset', height: tip.height, hash: tip.rhash()}));
node.on('tx', tx => {
  seen.set(tx.txid(), tx);
  say({event: 'tx', id: tx.txid()});
});
node.on('error', err => process.stderr.write(`bcoin: ${err.stack}\n`));

const does = {
  // The chain as bcoin has it.
  tip: async () => ({height: node.chain.height, hash: node.chain.tip.rhash()}),

  // Puts the key's script into the filter that the peer is sent (BIP 37).
  watch: async () => {
    node.pool.watchAddress(ring.getAddress());
    node.pool.sendFilterLoad(); // it would wait a tenth of a second for more
    return {script: ring.getProgram().toRaw().toString('hex')};
  },

  // Signs a spend of one output it has seen, to itself, and announces it.
  spend: async ({id, index, fee}) => {
    const from = seen.get(id);
    const mtx = new MTX();
    mtx.addTX(from, index);
    mtx.addOutput(ring.getAddress(), from.outputs[index].value - fee);
    mtx.sign(ring);
    if (!mtx.verify())
      throw new Error('the signature is not good');
    node.relay(mtx.toTX()); // ends only when the peer has asked for it
    return {id: mtx.txid()};
  }
};

(async () => {
  await node.ensure();
  await node.open();
  await node.connect();
  node.startSync();
  say({event: 'open'});
  for await (const line of readline.createInterface({input: process.stdin})) {
    const ask = JSON.parse(line);
    try {
      say({event: 'answer', ...await does[ask.do](ask)});
    } catch (err) {
      say({event: 'answer', error: err.message});
    }
  }
  process.exit(0);
})().catch((err) => {
  process.stderr.write(err.stack + '\n');
  process.exit(1);
});
